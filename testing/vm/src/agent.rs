//! The host's end of the agent's port: sends commands, and passes the answers to the waiting
//! threads.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Context as _, Result};
use crate::protocol::{self, Message};

/// How long a guest that does not read its port may block a sender.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Agent {
    port: Mutex<UnixStream>,
    routes: Arc<Mutex<Routes>>,
}

/// The receivers of the messages of each command; number 0 is the agent itself. `None` if the guest
/// is gone.
#[derive(Debug)]
struct Routes {
    to: Option<HashMap<u32, Sender<Message>>>,
    last: u32,
}

impl Agent {
    /// Attaches to the port. Also returns the agent's own messages; the first is
    /// [`Message::Ready`].
    pub(crate) fn attach(port: UnixStream) -> Result<(Self, Receiver<Message>)> {
        let attaching = || "cannot attach to the agent's port".to_owned();
        let mut reader = port.try_clone().context(attaching)?;
        port.set_write_timeout(Some(WRITE_LIMIT)).context(attaching)?;
        let (sender, own) = mpsc::channel();
        let routes = Arc::new(Mutex::new(Routes { to: Some(HashMap::from([(0, sender)])), last: 0 }));
        let table = Arc::clone(&routes);
        thread::Builder::new()
            .name("rbd-testvm-port".into())
            .spawn(move || {
                // A broken stream is handled like a guest that is gone.
                while let Ok(Some((id, message))) = protocol::receive(&mut reader) {
                    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some(to) = &mut table.to else { break };
                    let last = matches!(message, Message::Exited(_) | Message::Refused(_));
                    // The waiting thread may be gone.
                    to.get(&id).map(|route| route.send(message));
                    if last {
                        to.remove(&id);
                    }
                }
                table.lock().unwrap_or_else(PoisonError::into_inner).to = None;
            })
            .context(attaching)?;
        Ok((Self { port: Mutex::new(port), routes }, own))
    }

    /// Starts a command. The receiver ends without a last message if the guest is gone.
    pub(crate) fn open(&self, message: &Message) -> io::Result<(u32, Receiver<Message>)> {
        let (sender, receiver) = mpsc::channel();
        let id = {
            let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.last += 1;
            let id = routes.last;
            routes.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.insert(id, sender);
            id
        };
        self.send(id, message)?;
        Ok((id, receiver))
    }

    pub(crate) fn send(&self, id: u32, message: &Message) -> io::Result<()> {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::send(&mut *port, id, message)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Ends the reading thread, which has its own descriptor.
        let _ = self.port.get_mut().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
    }
}
