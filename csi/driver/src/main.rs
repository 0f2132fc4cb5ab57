//! The driver's program.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use rbd_csi::args::{Args, LogFormat};
use rbd_csi::clusters::Clusters;
use rbd_csi::config::Config;
use rbd_csi::controller::{self, Controller};
use rbd_csi::metrics::Metrics;
use rbd_csi::node::{self, Node};
use rbd_csi::server::{self, Services};
use rbd_csi::service::{ControllerService, Identity, NodeService, Registrar};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match begin(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Without a backtrace: the reader is the person who can correct the arguments or the file.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn begin(args: Args) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log).context("--log")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    if !args.controller && !args.node {
        bail!("say what to do: --controller, --node, or both");
    }
    // Calls to the cluster block, so this is the number of requests in work at the same time.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(128)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(run(args));
    // Gives up requests that wait for the cluster.
    runtime.shutdown_background();
    ended
}

async fn run(args: Args) -> Result<()> {
    let config = Config::read(&args.clusters)?;
    let lists = config.with_user().next().is_some();
    let clusters = Arc::new(Clusters::new(config));
    let metrics = Arc::new(Metrics::default());
    let identity = Identity {
        name: args.driver_name.clone(),
        controller: args.controller,
        lists,
        metrics: Arc::clone(&metrics),
    };
    let controller = args.controller.then(|| {
        let options = controller::Options {
            flatten_depth: args.flatten_depth.into(),
            most_snapshots: controller::MOST_SNAPSHOTS,
        };
        ControllerService::new(Controller::new(Arc::clone(&clusters), options), identity.clone())
    });
    let node = args.node_id.filter(|_| args.node).map(|id| {
        let options = node::Options {
            id,
            wait_for_users: Duration::from_secs(args.wait_for_users),
            map_timeout: Duration::from_secs(args.map_timeout),
        };
        let node = Node::new(Arc::clone(&clusters), options);
        node.look();
        NodeService::new(node, identity.clone())
    });
    let (stop, stopped) = watch::channel(false);
    let given_up = end(stop, Duration::from_secs(args.grace))?;
    let socket = server::socket_path(&args.endpoint)?;
    if let Some(address) = args.metrics {
        let listener = server::listen_for_metrics(&address).await?;
        tokio::spawn(server::serve_metrics(listener, Arc::clone(&metrics), stopped.clone()));
    }
    let services = Services { identity, controller, node };
    let registration = args.registration.map(|path| {
        let endpoint = args.kubelet_endpoint.unwrap_or_else(|| socket.clone());
        (Registrar { name: args.driver_name, endpoint }, path)
    });
    let serving = async {
        let serving = server::serve(services, &socket, stopped.clone());
        let Some((registrar, path)) = registration else { return serving.await };
        tokio::try_join!(serving, server::register(registrar, &path, stopped.clone()))?;
        Ok(())
    };
    tokio::select! {
        served = serving => served,
        () = given_up => {
            tracing::warn!("requests in flight are given up; a repeated request continues where it stopped");
            Ok(())
        }
    }
}

/// Stops the server at the first signal. The future ends after the grace time, or at a second
/// signal; requests still in flight are then given up.
fn end(stop: watch::Sender<bool>, grace: Duration) -> Result<impl Future<Output = ()>> {
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    Ok(async move {
        let [terminate, interrupt] = &mut signals;
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("ending");
        let _ = stop.send(true);
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
            () = tokio::time::sleep(grace) => {},
        }
    })
}
