//! `rbd feature enable` and `rbd feature disable`.
//!
//!     cargo run --example feature -- disable foo exclusive-lock,object-map,fast-diff
//!
//! The library checks the rules before it touches the image, and changes only the given features.
//! The `rbd` command silently disables fast-diff with object-map, and silently enables object-map
//! with fast-diff.

mod common;

use std::process::ExitCode;

use common::{ClusterFlags, EINVAL, Failure, ImageFlags, failed};
use rbd::Features;

/// Enable or disable the specified image features.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageFlags,
    action: Action,
    /// image specification (unless --image is given) and image features
    #[arg(value_name = "IMAGE_SPEC FEATURES")]
    words: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    Enable,
    Disable,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let (image_spec, features) = match args.words.split_first() {
        Some((image_spec, features)) if !args.image.is_named() => (Some(image_spec.as_str()), features),
        _ => (None, args.words.as_slice()),
    };
    let spec = args.image.spec(image_spec)?;
    if features.is_empty() {
        return Err(Failure::new(EINVAL, "at least one feature name must be specified"));
    }
    let features: Features = features
        .join(",")
        .parse()
        .map_err(|unknown| Failure::new(1, "the argument for option is invalid").because(unknown))?;

    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    let image = pool.open(&spec.image).run();
    let image = image.map_err(failed(format_args!("error opening image {}", spec.image)))?;

    let what = "failed to update image features";
    // For the library it is no error if there is nothing to do. For this command it is.
    let now = image.features().map_err(failed(what))?;
    let (already, state) = match args.action {
        Action::Enable => (features & now, "enabled"),
        Action::Disable => (features - now, "disabled"),
    };
    if !already.is_empty() {
        return Err(Failure::errno(EINVAL, what).because(format_args!("already {state}: {already}")));
    }
    let change = match args.action {
        Action::Enable => image.enable_features(features),
        Action::Disable => image.disable_features(features),
    };
    change.map_err(failed(what))
}
