//! The check for idioms, which stop a reader.

use std::path::Path;

/// Idioms that readers stumble over. Write a plain main clause.
const IDIOMS: &[&str] =
    &["as of", "be it", ", for one", "of ours", "whoever", "whomever", "lest", "for ever"];

/// Returns the faults of a file, by its name and text.
pub(super) fn check(file: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let is_guide = Path::new(file).extension().is_some_and(|extension| extension == "md");
    let prose = if is_guide { guide(text) } else { comments(text) };
    let mut before = (0, String::new());
    for (line, words) in prose {
        let found = idioms(&words);
        // An idiom can be broken over two lines, then neither has it alone.
        let joined = format!("{} {words}", before.1);
        let broken = idioms(&joined).into_iter().filter(|idiom| {
            before.0 + 1 == line && !found.contains(idiom) && !idioms(&before.1).contains(idiom)
        });
        for idiom in found.iter().copied().chain(broken) {
            faults.push(format!("{file}:{line}: \"{idiom}\" stops a reader; use a plain main clause"));
        }
        before = (line, words);
    }
    faults
}

/// Returns the idioms in a line of prose. Text in backticks is code.
fn idioms(line: &str) -> Vec<&'static str> {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" code ");
    let words: Vec<_> = prose
        .replace(',', " , ")
        .split(|c: char| c != ',' && !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let words = format!(" {} ", words.join(" "));
    IDIOMS.iter().copied().filter(|idiom| words.contains(&format!(" {idiom} "))).collect()
}

/// Returns the comments of a Rust file with their line numbers, without code blocks.
fn comments(text: &str) -> Vec<(usize, String)> {
    let mut code = false;
    let mut found = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            code = false;
            continue;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim();
        if comment.starts_with("```") {
            code = !code;
        } else if !code {
            found.push((at, comment.to_owned()));
        }
    }
    found
}

/// Returns the prose of a Markdown file with its line numbers, without code blocks.
pub(super) fn guide(text: &str) -> Vec<(usize, String)> {
    let mut code = false;
    let mut found = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            found.push((at, line.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idiom_is_found_in_prose_and_not_in_code() {
        let rust = "// Whoever polls waits.\nlet as_of = \"whoever\";\n/// A list `of ours`.\n/// \
            ```\n/// be it\n/// ```\n";
        let lines = |file, text| check(file, text).len();
        assert_eq!(lines("a.rs", rust), 1);
        assert!(check("a.rs", rust)[0].contains("a.rs:1: \"whoever\""));
        assert_eq!(lines("a.md", "A snapshot, for one, is\n```\nas of\n```\nbe it a pool\n"), 2);
        assert_eq!(lines("a.rs", "// A list of\n// ours.\nlet a = 1; // of\n// ours\n"), 1);
        assert_eq!(lines("a.md", "A pool as\nof now.\n\nAs\n\nof now.\n"), 1);
        assert_eq!(
            lines("a.md", "Wait for one second. Maybe it is known. As often as it can. Hours of use."),
            0
        );
    }
}
