//! `gc` (hidden): finishes one container's clean-up that a `delete` could not finish within its time. Detached, bounded,
//! and only for that very transaction.

use std::time::{Duration, Instant};

use record_store::Read;
use runtime_core::{
    config::Config,
    layout::Layout,
    record::RunDir,
    recover::{Outcome, Told, unwind_members_of, unwind_orphan},
    sweep::tidy,
};

use crate::{error::Error, flags::Flags};

/// How long it tries.
const BOUND: Duration = Duration::from_secs(600);
/// How long one try may take.
const EACH: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the action.
pub fn run(flags: &Flags) -> Result<(), Error> {
    runtime_core::launcher::close_inherited(&[]);
    rustix::process::setsid().map_err(Error::system("make a session"))?;
    let layout = Layout::new(&Config::root()?, &flags.address);
    let end = Instant::now() + BOUND;
    let mut pause = Duration::from_millis(200);
    while Instant::now() < end {
        let Some(dir) = RunDir::open(&layout.container(&flags.namespace, &flags.id))? else { break };
        let record = match dir.read() {
            Read::Record(record) if record.txid == flags.txid && !record.tombstone => record,
            // Done by somebody else, or another container of that id by now.
            _ => break,
        };
        let deadline = Instant::now() + fault::deadline("deadline.gc", EACH);
        let done = unwind_members_of(&layout, &record, deadline)
            .and_then(|()| unwind_orphan(&layout, &flags.namespace, &flags.id, Told::Later, deadline));
        if let Ok(Outcome::Unwound(_) | Outcome::Nothing) = done {
            break;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    tidy(&layout);
    Ok(())
}
