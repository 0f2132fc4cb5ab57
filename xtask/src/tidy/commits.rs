//! The messages of new commits: a short subject that names an area, and a body that says why.

use std::process::Command;

/// Commits after this one are checked. It is older than the rule.
const BASE: &str = "64a0f54";

/// Commits that landed without a body before this check. History is not rewritten.
const EXEMPT: &[&str] = &["95583a1", "a496930", "95f1884", "0c6477a", "4fedede", "4825ba5"];

/// The longest subject in columns. Lists of commits cut off more.
const SUBJECT: usize = 72;

/// The subject of commits that only format, which need no reason.
const FORMAT: &str = "style: format";

/// Returns the faults of the commits after [`BASE`], and how many there are. Returns `None` without
/// git or with a shallow history.
pub(super) fn check(root: &std::path::Path) -> Option<(usize, Vec<String>)> {
    let range = format!("{BASE}..HEAD");
    let output = Command::new("git")
        .args(["log", "--no-merges", "--format=%h%x00%s%x00%b%x01", &range])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let commits = || text.split('\x01').map(str::trim_start).filter(|commit| !commit.is_empty());
    Some((commits().count(), commits().filter_map(fault).collect()))
}

fn fault(commit: &str) -> Option<String> {
    let mut parts = commit.splitn(3, '\0');
    let (id, subject, body) = (parts.next()?, parts.next()?, parts.next().unwrap_or(""));
    if EXEMPT.contains(&&id[..7.min(id.len())]) {
        return None;
    }
    let has_area = subject.split_once(": ").is_some_and(|(area, what)| {
        !area.is_empty() && !what.trim().is_empty() && area.split(", ").all(|one| !one.contains(' '))
    });
    let what = if !has_area {
        "the subject has the form `area: what`"
    } else if subject.chars().count() > SUBJECT {
        "the subject has at most 72 columns"
    } else if body.trim().is_empty() && subject != FORMAT {
        "a body says why"
    } else {
        return None;
    };
    Some(format!("commit {id}: {what}: \"{subject}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_an_area_and_bodies_a_reason() {
        let why = "Because.\n";
        for good in ["raw: move files", "ci, docs: say so", "image/diff: a fault", FORMAT] {
            let body = if good == FORMAT { "" } else { why };
            assert_eq!(fault(&format!("1\0{good}\0{body}")), None);
        }
        let long = format!("raw: {}", "x".repeat(SUBJECT));
        for bad in ["Changelog: \0", "A riddle: of words", "no area", ": what", &long] {
            assert!(fault(&format!("1\0{bad}\0{why}")).is_some(), "{bad}");
        }
        assert!(fault("1\0raw: move files\0 \n").is_some());
    }

    #[test]
    fn a_copy_without_git_passes() {
        assert_eq!(check(std::path::Path::new("/")), None);
    }
}
