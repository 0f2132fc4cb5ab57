//! The images of a survey, in the order of the `rbd` command.

use rbd::survey::{SurveyedImage, SurveyedImages};

use super::flags::ProgressFlag;
use super::progress::Bar;

/// Collects the images, with a progress bar. Those of format 1 come first, as in the `rbd` command.
pub fn collect(
    images: SurveyedImages,
    what: &'static str,
    flag: &ProgressFlag,
) -> Vec<rbd::Result<SurveyedImage>> {
    let mut bar = Bar::for_terminal(what, flag);
    let total = images.total() as u64;
    let shown = images.zip(1..).map(|(image, done)| {
        let _ = bar.update(done, total);
        image
    });
    let mut images: Vec<_> = shown.collect();
    bar.clear();
    images.sort_by_key(|image| !image.as_ref().is_ok_and(|image| image.old_format));
    images
}
