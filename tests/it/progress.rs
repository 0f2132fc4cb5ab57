//! The progress reports of long operations.

use std::ops::ControlFlow;

use rbd::Features;
use rbd::image::CloneFormat;

use crate::support::Space;

const MIB: u64 = 1 << 20;

type Steps = Vec<(u64, u64)>;

/// Returns the steps that a call reports.
fn steps(
    call: impl FnOnce(&mut (dyn FnMut(u64, u64) -> ControlFlow<()> + Send)) -> rbd::Result<()>,
) -> Steps {
    let mut steps = Vec::new();
    call(&mut |done, total| {
        steps.push((done, total));
        ControlFlow::Continue(())
    })
    .unwrap();
    steps
}

#[test]
fn the_last_report_is_the_total() {
    let space = Space::new();
    space.create("foo", 16 * MIB).features(Features::DEFAULT).run().unwrap();
    let image = space.open("foo").run().unwrap();
    for object in 0..4 {
        image.write_all_at(&[1; 512], object * 4 * MIB).unwrap();
    }
    image.snapshots().create("s").run().unwrap();
    space.clone_image("foo", "s", "child").format(CloneFormat::V2).run().unwrap();
    let child = space.open("child").run().unwrap();
    let all = [
        ("flatten", steps(|each| child.flatten().progress(each).run())),
        ("copy", steps(|each| image.copy_to(&space, "copy").progress(each).run())),
        ("deep copy", steps(|each| image.deep_copy_to(&space, "deep").progress(each).run())),
        ("sparsify", steps(|each| image.sparsify(4096).progress(each).run())),
        ("rebuild", steps(|each| image.object_map().rebuild().progress(each).run())),
        ("rollback", steps(|each| image.snapshots().rollback("s").progress(each).run())),
        ("shrink", steps(|each| image.resize(4 * MIB).allow_shrink(true).progress(each).run())),
        ("remove", steps(|each| space.remove("copy").progress(each).run())),
    ];
    for (call, steps) in all {
        let (done, total) = *steps.last().unwrap_or_else(|| panic!("{call} reported nothing"));
        assert!(done == total && total > 0, "{call}: {steps:?}");
        assert!(steps.is_sorted_by_key(|(done, _)| *done), "{call}: {steps:?}");
    }
}
