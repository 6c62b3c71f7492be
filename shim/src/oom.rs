//! Hears of the kernel that an ordinary container has run out of memory while it runs. It ends with the container.

use std::{sync::Arc, time::Duration};

use runtime_core::container::Container;
use tokio::time::sleep;

use crate::daemon::{Daemon, registered};

/// The word comes before the kill: how long that may take, step by step.
const KILLING: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(5),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(750),
    Duration::from_secs(3),
];

/// Listens from now on.
pub fn serve(daemon: &Arc<Daemon>, container: &Arc<Container>) {
    let Some(watch) = daemon.runtime.watch_memory(container) else { return };
    let fd = std::os::fd::AsFd::as_fd(&watch).try_clone_to_owned().and_then(registered);
    let Ok(fd) = fd.inspect_err(|e| tracing::warn!(id = container.id, error = %e, "no word of its memory"))
    else {
        return;
    };
    let (daemon, container) = (daemon.clone(), container.clone());
    tokio::spawn(async move {
        let mut exit = container.exit();
        loop {
            tokio::select! {
                ready = fd.readable() => match ready {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => return,
                },
                // Told with it.
                _ = exit.wait_for(Option::is_some) => return,
            }
            watch.hear();
            for pause in KILLING {
                sleep(pause).await;
                // It is gone.
                let Ok(Some(kills)) = watch.kills() else { return };
                let told = container.clone();
                let told = daemon.blocking(move |runtime| runtime.tell_oom(&told, kills));
                if told.await.unwrap_or(false) {
                    break;
                }
            }
        }
    });
}
