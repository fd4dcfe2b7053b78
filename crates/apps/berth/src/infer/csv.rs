//! CSV as RFC 4180 has it: quotes, commas and line breaks inside them.

use super::rows::{Cell, Rows};

/// Cells of one file: what a request body of some tens of megabytes holds.
const CELLS_MAX: usize = 16 * 1024 * 1024;

/// Reads a file. The first line names the columns, unless every cell of it is a number.
pub(super) fn read(text: &str) -> Result<Rows, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = records(text)?.into_iter();
    let Some((_, first)) = records.next() else { return Err("it is empty".to_owned()) };
    let width = first.len();
    let is_data = first.iter().all(|cell| cell.trim().parse::<f64>().is_ok());
    let columns = if is_data { Vec::new() } else { first.iter().map(|name| name.trim().to_owned()).collect() };
    let mut rows = Vec::new();
    if is_data {
        rows.push(cells(first));
    }
    for (line, record) in records {
        if record.len() != width {
            return Err(format!("line {line} has {} cells and the first has {width}", record.len()));
        }
        rows.push(cells(record));
    }
    if rows.is_empty() {
        return Err("it has a header and no rows".to_owned());
    }
    Ok(Rows { columns, width, rows })
}

fn cells(record: Vec<String>) -> Vec<Cell> {
    record.into_iter().map(Cell::Text).collect()
}

/// Records with the lines they begin on; empty lines are none.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut began, mut quoted, mut was_quoted, mut count) = (1, 1, false, false, 0_usize);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\n' {
            line += 1;
        }
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            c if quoted => cell.push(c),
            '"' if cell.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            '"' => {
                return Err(format!(
                    "line {line} has a quote inside a cell: write the cell in quotes and `\"\"` for each"
                ));
            }
            ',' => {
                record.push(std::mem::take(&mut cell));
                (was_quoted, count) = (false, count + 1);
            }
            '\r' if matches!(chars.peek(), Some('\n') | None) => {}
            '\n' => {
                if !record.is_empty() || !cell.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut cell));
                    records.push((began, std::mem::take(&mut record)));
                    count += 1;
                }
                (was_quoted, began) = (false, line);
            }
            c if was_quoted && !c.is_whitespace() => {
                return Err(format!("line {line} has text after a quoted cell"));
            }
            _ if was_quoted => {}
            c => cell.push(c),
        }
        if count > CELLS_MAX {
            return Err(format!("it has more than {CELLS_MAX} cells: split it"));
        }
    }
    if quoted {
        return Err(format!("the quote that opens on line {began} is not closed"));
    }
    if !record.is_empty() || !cell.is_empty() || was_quoted {
        record.push(cell);
        records.push((began, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(rows: &Rows) -> Vec<Vec<String>> {
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            Cell::Value(value) => value.to_string(),
        };
        rows.rows.iter().map(|row| row.iter().map(text).collect()).collect()
    }

    #[test]
    fn quotes_and_line_ends() {
        let rows = read("\u{feff}a, b ,\"c\"\r\n1,\"x, \"\"y\"\"\nz\",\r\n\r\n2,,3").unwrap();
        assert_eq!(rows.columns, ["a", "b", "c"]);
        assert_eq!(texts(&rows), [["1", "x, \"y\"\nz", ""], ["2", "", "3"]]);
    }

    #[test]
    fn a_first_line_of_numbers_is_a_row() {
        let rows = read("1,2\n3,4\n").unwrap();
        assert!(rows.columns.is_empty());
        assert_eq!(texts(&rows), [["1", "2"], ["3", "4"]]);
    }

    #[test]
    fn what_is_refused() {
        for (text, word) in [
            ("", "empty"),
            ("a,b\n", "no rows"),
            ("a,b\n1\n", "line 2 has 1 cells"),
            ("a\n\"x", "line 2 is not closed"),
            ("a\nx\"y\n", "quote inside"),
            ("a\n\"x\"y\n", "after a quoted"),
        ] {
            assert!(read(text).unwrap_err().contains(word), "{text}: {}", read(text).unwrap_err());
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a1,\"\r\n ü]{0,60}") {
            drop(read(&text));
        }

        #[test]
        fn what_is_written_is_read(cells in proptest::collection::vec(proptest::collection::vec("[a-z,\"\n ]{0,6}", 2), 1..5)) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let lines: Vec<String> = cells.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",")).collect();
            let rows = read(&format!("h,i\n{}\n", lines.join("\r\n"))).unwrap();
            prop_assert_eq!(texts(&rows), cells);
        }
    }
}
