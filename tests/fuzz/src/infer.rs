//! The readers of the CLI's files, which has no library.

#[path = "../../../crates/apps/berth/src/infer/npy.rs"]
mod npy;

#[path = "../../../crates/apps/berth/src/infer/csv.rs"]
mod csv;

/// What the reader of CSV fills.
mod rows {
    /// A table.
    #[derive(Debug)]
    pub(super) struct Rows {
        pub(super) columns: Vec<String>,
        pub(super) width: usize,
        pub(super) rows: Vec<Vec<Cell>>,
    }

    /// One cell.
    #[derive(Debug, PartialEq)]
    pub(super) enum Cell {
        Text(String),
        #[expect(dead_code, reason = "other readers make it")]
        Value(serde_json::Value),
    }
}

/// Reads a CSV file; the cells of every row must be as many as it says.
pub(crate) fn read_csv(text: &str) {
    if let Ok(table) = csv::read(text) {
        assert!(table.columns.is_empty() || table.columns.len() == table.width, "columns are missing");
        assert!(table.rows.iter().all(|row| row.len() == table.width), "a row is short");
    }
}

/// Reads an array; its bytes must be as many as its shape says.
pub(crate) fn read_npy(bytes: &[u8]) {
    if let Ok(array) = npy::read(bytes) {
        let elements = array.shape.iter().product::<usize>();
        assert_eq!(array.bytes.len(), elements * array.element.size(), "bytes and shape differ");
    }
}
