//! The address of a service inside the system, in front of its processes: what a cluster's service address is.
//!
//! Each new connection goes to one of the processes that are in the list at that time; those that stand stay.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listening address and where it leads.
pub(crate) struct Front {
    pub(crate) url: String,
    backends: Arc<RwLock<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let backends = Arc::new(RwLock::new(Vec::<String>::new()));
        let of_accepting = Arc::clone(&backends);
        #[expect(
            clippy::disallowed_methods,
            reason = "the fault suite has no tasks of the kit"
        )]
        let accepting = tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                let backend = {
                    let backends = of_accepting.read().unwrap_or_else(PoisonError::into_inner);
                    fastrand::choice(backends.iter()).cloned()
                };
                let Some(backend) = backend else { continue };
                #[expect(clippy::disallowed_methods, reason = "it ends with either side")]
                tokio::spawn(async move {
                    if let Ok(mut process) = TcpStream::connect(backend).await {
                        // Either side may go at any time; the other then sees it.
                        drop(copy_bidirectional(&mut caller, &mut process).await);
                    }
                });
            }
        });
        Ok(Self {
            url,
            backends,
            accepting,
        })
    }

    /// From now on new connections may come to this process.
    pub(crate) fn add(&self, url: &str) {
        let address = address(url);
        let mut backends = self
            .backends
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !backends.contains(&address) {
            backends.push(address);
        }
    }

    /// From now on no new connection goes to this process.
    pub(crate) fn remove(&self, url: &str) {
        let address = address(url);
        let mut backends = self
            .backends
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        backends.retain(|backend| *backend != address);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}
