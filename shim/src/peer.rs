//! Who may connect: only our own user. Whoever speaks at the socket owns the pod.

use std::os::fd::{BorrowedFd, RawFd};

use rustix::{net::sockopt::socket_peercred, process::geteuid};
use ttrpc::security_extension::{AcceptHook, ConnectionData, HookError, HookOutput};

/// Refuses every peer that is of another user (SO_PEERCRED, unix(7)).
#[derive(Debug)]
pub struct SameUser;

impl AcceptHook for SameUser {
    fn on_accept(&self, fd: RawFd) -> Result<HookOutput, HookError> {
        // SAFETY: ttrpc keeps the connection open for the length of this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let peer = socket_peercred(fd).map_err(|e| HookError::Io(e.into()))?;
        if peer.uid == geteuid() {
            Ok(HookOutput { data: ConnectionData::default(), payload_transform: None })
        } else {
            Err(HookError::Rejected(format!("peer is user {}", peer.uid.as_raw())))
        }
    }
}
