//! `status`: the values of `ceph -s` and `ceph osd tree`.

use std::io::Write as _;
use std::path::PathBuf;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use rbd_testcluster::Access;
use rbd_testcluster::status::{OsdTree, Status};

use crate::{Result, down};

pub(crate) fn status(conf: Option<PathBuf>) -> Result<()> {
    let access = Access::new(down::find(conf)?);
    let status = access.status()?;
    let text = format!("{}\n{}\n", summary(&status), tree(&access.osd_tree()?));
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn summary(status: &Status) -> String {
    let mut lines = vec![
        "  cluster:".to_owned(),
        format!("    id:     {}", status.fsid),
        format!("    health: {}", status.health.status),
    ];
    for (code, check) in &status.health.checks {
        let muted = if check.muted { " (muted)" } else { "" };
        lines.push(format!("            {code}: {}{muted}", check.summary.message));
    }
    let counts = &status.osdmap;
    let pgs = &status.pgmap;
    lines.extend([
        String::new(),
        "  services:".to_owned(),
        format!("    mon: {} in quorum: {}", status.quorum_names.len(), status.quorum_names.join(",")),
        format!("    mgr: {}", if status.mgrmap.available { "available" } else { "none available" }),
        format!("    osd: {} osds: {} up, {} in", counts.all, counts.up, counts.r#in),
        String::new(),
        "  data:".to_owned(),
        format!("    pools:   {} pools, {} pgs", pgs.num_pools, pgs.num_pgs),
        format!("    objects: {} objects, {}", pgs.num_objects, size(pgs.data_bytes)),
        format!(
            "    usage:   {} used, {} / {} avail",
            size(pgs.bytes_used),
            size(pgs.bytes_avail),
            size(pgs.bytes_total)
        ),
    ]);
    for (at, state) in pgs.pgs_by_state.iter().enumerate() {
        let label = if at == 0 { "pgs:" } else { "" };
        lines.push(format!("    {label:<8} {} {}", state.count, state.state_name));
    }
    lines.join("\n") + "\n"
}

fn tree(tree: &OsdTree) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["ID", "CLASS", "WEIGHT", "TYPE NAME", "STATUS", "REWEIGHT", "PRI-AFF"]);
    for node in tree.nodes.iter().chain(&tree.stray) {
        let number = |value: Option<f64>| value.map(|value| format!("{value:.5}")).unwrap_or_default();
        let indent = "    ".repeat(node.depth.unwrap_or(0));
        let name = if node.kind == "osd" {
            format!("{indent}{}", node.name)
        } else {
            format!("{indent}{} {}", node.kind, node.name)
        };
        table.add_row([
            node.id.to_string(),
            node.device_class.clone().unwrap_or_default(),
            number(node.crush_weight),
            name,
            node.status.clone().unwrap_or_default(),
            number(node.reweight),
            number(node.primary_affinity),
        ]);
    }
    for column in [0, 2, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Formats bytes in powers of 1024, like `ceph`.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    while tenths >= 10 * 1024 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 || tenths >= 100 {
        format!("{} {}", tenths / 10, units[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1536, 8 << 30, 20 << 40].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.5 KiB", "8.0 GiB", "20 TiB"]);
    }

    #[test]
    fn the_tree_is_indented_as_deep_as_it_is() {
        let text = r#"{"nodes": [{"id": -1, "name": "default", "type": "root", "depth": 0},
            {"id": 0, "name": "osd.0", "type": "osd", "depth": 2, "status": "up", "crush_weight": 0.0078,
             "reweight": 1, "primary_affinity": 1}], "stray": []}"#;
        let shown = tree(&serde_json::from_str(text).unwrap()).to_string();
        assert!(shown.contains("root default") && shown.contains("        osd.0"), "{shown}");
        assert!(shown.contains("0.00780") && shown.contains("up"), "{shown}");
    }
}
