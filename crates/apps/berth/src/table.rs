//! Tables without lines, as kubectl prints them.

/// Rows under a header, columns apart by three spaces, nothing at the ends of lines.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut all = vec![header.iter().map(|title| (*title).to_owned()).collect::<Vec<String>>()];
    all.extend(rows);
    let widths = widths(&all);
    all.iter().map(|row| line(row, &widths)).collect::<Vec<_>>().join("\n")
}

/// The same, moved to the right; nothing without rows.
pub(crate) fn indented(header: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let text = table(header, rows);
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Places that each column needs.
pub(crate) fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| visible(cell)).max();
    (0..columns).map(|column| widest(column).unwrap_or(0)).collect()
}

/// One line of a table.
pub(crate) fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(cell);
        line.push_str(&" ".repeat(width.saturating_sub(visible(cell)) + 3));
    }
    line.trim_end().to_owned()
}

/// Characters that take a place: without the colour's.
pub(crate) fn visible(cell: &str) -> usize {
    let mut places = 0;
    let mut inside = false;
    for c in cell.chars() {
        match (inside, c) {
            (false, '\u{1b}') => inside = true,
            (true, 'm') => inside = false,
            (false, _) => places += 1,
            (true, _) => {}
        }
    }
    places
}

/// The first line of a longer text, for a column.
pub(crate) fn one_line(text: &str) -> String {
    /// What still fits beside the other columns of a wide terminal.
    const CHARS_MAX: usize = 160;
    let mut lines = text.lines();
    let first = crate::output::printable(lines.next().unwrap_or_default());
    let mut short: String = first.chars().take(CHARS_MAX).collect();
    if lines.next().is_some() || first.chars().nth(CHARS_MAX).is_some() {
        short.push_str(" …");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let rows =
            vec![vec!["\u{1b}[32mspam\u{1b}[0m".to_owned(), String::new()], vec!["a".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["NAME", "AGE"], rows), "NAME   AGE\n\u{1b}[32mspam\u{1b}[0m\na      b");
        assert_eq!(indented(&["NAME"], Vec::new()), "");
        assert_eq!(one_line("a\nb"), "a …");
    }
}
