//! The check that lines of text wrap: comments in Rust, and prose in Markdown.

use std::path::Path;

use super::words::guide;

/// The longest line in columns.
const WIDTH: usize = 100;

/// Returns the faults of a file, by its name and text.
pub(super) fn check(file: &str, text: &str) -> Vec<String> {
    let is_guide = Path::new(file).extension().is_some_and(|kind| kind == "md");
    let long = if is_guide { long_prose(text) } else { long_comments(text) };
    long.into_iter()
        .map(|line| format!("{file}:{line}: text of more than {WIDTH} columns; wrap it"))
        .collect()
}

fn is_long(line: &str) -> bool {
    // A long word that cannot be broken, such as an address, may be longer.
    line.chars().count() > WIDTH
        && line.trim_start_matches(['/', '!', ' ', '-', '*', '>']).contains(' ')
        && !line.contains("](")
        && !line.contains("://")
}

fn long_comments(text: &str) -> Vec<usize> {
    let comment = |line: &str| line.trim_start().starts_with("//");
    // Tables in doc comments cannot wrap.
    let table = |line: &str| line.trim_start_matches(['/', '!', ' ']).starts_with('|');
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| comment(line) && !table(line) && is_long(line))
        .map(|(at, _)| at)
        .collect()
}

fn long_prose(text: &str) -> Vec<usize> {
    let wraps = |line: &str| !line.trim_start().starts_with('|') && !line.starts_with("    ");
    guide(text).into_iter().filter(|(_, line)| wraps(line) && is_long(line)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_prose_wrap_but_not_code_tables_and_links() {
        let words = "word ".repeat(WIDTH / 5 + 1);
        let rust = format!(
            "/// {words}\n    // {words}\nlet a = \"{words}\";\n//! | {words} |\n// https://{words}\n"
        );
        assert_eq!(long_comments(&rust), [1, 2]);
        let prose =
            format!("{words}\n\n    {words}\n```\n{words}\n```\n| {words}|\n[{words}](x)\n- {words}\n");
        assert_eq!(long_prose(&prose), [1, 9]);
        assert_eq!(long_comments(&format!("// {}", "x".repeat(WIDTH - 3))), [] as [usize; 0]);
    }
}
