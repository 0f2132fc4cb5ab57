//! The interface, compiled from `proto/`.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]
#![allow(clippy::all, clippy::pedantic)]

pub mod csi {
    tonic::include_proto!("csi.v1");
}

pub mod registration {
    tonic::include_proto!("pluginregistration");
}
