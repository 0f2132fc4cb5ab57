//! Serving on sockets, until the process is told to end.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::metrics::Metrics;
use crate::proto::csi::controller_server::ControllerServer;
use crate::proto::csi::group_controller_server::GroupControllerServer;
use crate::proto::csi::identity_server::IdentityServer;
use crate::proto::csi::node_server::NodeServer;
use crate::proto::csi::snapshot_metadata_server::SnapshotMetadataServer;
use crate::proto::registration::registration_server::RegistrationServer;
use crate::service::{ControllerService, Identity, NodeService, Registrar};

/// How long a process that was killed may still be there.
const ENDS: Duration = Duration::from_secs(5);

/// What is served.
#[derive(Debug, Clone)]
pub struct Services {
    /// Who the driver is.
    pub identity: Identity,
    /// The controller's services.
    pub controller: Option<ControllerService>,
    /// The node's service.
    pub node: Option<NodeService>,
}

/// Becomes true when the process is to end.
pub type Stop = watch::Receiver<bool>;

async fn stopped(mut stop: Stop) {
    // An error means that the sender is gone, which is an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Returns the path of an endpoint: `unix:///path`, `unix:/path` or a path.
pub fn socket_path(endpoint: &str) -> Result<PathBuf> {
    let path = endpoint.strip_prefix("unix://").or(endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    if !path.starts_with('/') {
        bail!("the endpoint '{endpoint}' is no unix socket: write unix:///path");
    }
    Ok(path.into())
}

/// A socket in the file system. It is removed at the end, unless another process has replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    file: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The device and the number of a file.
fn file(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Listens on a socket. First removes a socket that a former process has left.
fn listen(path: &Path) -> Result<(UnixListener, SocketFile)> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            let end = Instant::now() + ENDS;
            while std::os::unix::net::UnixStream::connect(path).is_ok() {
                if Instant::now() >= end {
                    bail!("another process serves on '{}'; end it, or choose another path", path.display());
                }
                std::thread::sleep(ENDS / 50);
            }
            match std::fs::remove_file(path) {
                // The other process has removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.with_context(|| format!("cannot remove '{}'", path.display()))?,
            }
        }
        Ok(_) => bail!(
            "cannot listen on '{}': it exists and is no socket; remove it, or choose another path",
            path.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("cannot create '{}'", directory.display()))?;
            }
        }
        Err(error) => return Err(error).with_context(|| format!("cannot look at '{}'", path.display())),
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen on '{}'", path.display()))?;
    let file = file(path).with_context(|| format!("cannot look at '{}'", path.display()))?;
    Ok((listener, SocketFile { path: path.to_owned(), file }))
}

/// Serves requests on a socket until it is told to stop. Then completes the requests that have
/// begun.
pub async fn serve(services: Services, path: &Path, stop: Stop) -> Result<()> {
    let (listener, _file) = listen(path)?;
    tracing::info!(socket = %path.display(), "serving");
    let Services { identity, controller, node } = services;
    let server = Server::builder()
        .add_service(IdentityServer::new(identity))
        .add_optional_service(controller.clone().map(ControllerServer::new))
        .add_optional_service(controller.clone().map(GroupControllerServer::new))
        .add_optional_service(controller.map(SnapshotMetadataServer::new))
        .add_optional_service(node.map(NodeServer::new));
    server
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped(stop))
        .await
        .context("serving ended")
}

/// Serves the kubelet's registration.
pub async fn register(registrar: Registrar, path: &Path, stop: Stop) -> Result<()> {
    let (listener, _file) = listen(path)?;
    Server::builder()
        .add_service(RegistrationServer::new(registrar))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped(stop))
        .await
        .context("the registration ended")
}

/// Listens on the address of the metrics.
pub async fn listen_for_metrics(address: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on '{address}', the address of --metrics"))?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics");
    Ok(listener)
}

/// Serves the metrics by HTTP at every path. Any answer shows that the driver is alive.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>, stop: Stop) {
    let end = stopped(stop);
    tokio::pin!(end);
    loop {
        let (mut stream, _) = tokio::select! {
            () = &mut end => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Without free descriptors, each attempt fails at once.
                    tracing::warn!(%error, "a connection for metrics was lost");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
            },
        };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            // The request does not matter. Its head is read because the peer would otherwise see a
            // reset connection.
            let mut head = [0; 4096];
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut head)).await;
            let body = metrics.text();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_paths() {
        for endpoint in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(socket_path(endpoint).unwrap(), Path::new("/run/a.sock"));
        }
        assert!(socket_path("tcp://127.0.0.1:1").is_err());
    }
}
