//! Reports about a command that prints nothing for a long time: its processes, and where they wait.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How each line of a report begins.
pub(crate) const MARK: &str = "hangs: ";

/// Returns a line for each process that descends from `root`, with its threads and where in the
/// kernel they wait. The daemons of clusters have one line without threads.
pub(crate) fn report(root: u32) -> Vec<String> {
    let parents = parents();
    let descends = |mut pid: u32| {
        loop {
            match parents.get(&pid) {
                _ if pid == root => break true,
                Some(&parent) => pid = parent,
                None => break false,
            }
        }
    };
    parents.keys().filter(|&&pid| descends(pid)).map(|&pid| format!("{MARK}{}", describe(pid))).collect()
}

/// Returns the parent of each process.
fn parents() -> BTreeMap<u32, u32> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = text(&entry.path(), "stat");
        // The name stands in parentheses, and may contain any character.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    parents
}

fn describe(pid: u32) -> String {
    let process = Path::new("/proc").join(pid.to_string());
    let line: String = text(&process, "cmdline").replace('\0', " ").chars().take(160).collect();
    let mut threads = BTreeMap::<String, u32>::new();
    if !text(&process, "comm").starts_with("ceph-") {
        for task in fs::read_dir(process.join("task")).into_iter().flatten().flatten() {
            let place = format!("{} {}", text(&task.path(), "comm").trim(), text(&task.path(), "wchan"));
            *threads.entry(place).or_default() += 1;
        }
    }
    let threads: Vec<_> = threads.iter().map(|(place, count)| format!("{count} {place}")).collect();
    format!("{pid} {line}: {}", threads.join(", "))
}

fn text(directory: &Path, file: &str) -> String {
    String::from_utf8_lossy(&fs::read(directory.join(file)).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd;

    #[test]
    fn a_process_under_another_one_is_named_with_the_place_where_it_waits() {
        let mut shell = cmd::command("sh", ["-c", "sleep 61; true"]).spawn().unwrap();
        let waits = |line: &String| line.contains(" sleep 61 :") && line.contains("1 sleep ");
        let found = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            report(shell.id()).iter().any(waits)
        });
        let lines = report(shell.id());
        for line in &lines {
            let pid = line.strip_prefix(MARK).and_then(|rest| rest.split(' ').next()).unwrap();
            cmd::run(&mut cmd::command("kill", [pid])).unwrap();
        }
        shell.wait().unwrap();
        assert!(found && lines.len() == 2, "{lines:#?}");
    }
}
