//! The edge: an error becomes a ttrpc status here, and nowhere else. The chain is printed once.

use runtime_core::{Error, Kind};
use ttrpc::{Code, error::get_rpc_status};

/// The code of a kind of failure.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::INVALID_ARGUMENT,
        Kind::NotFound => Code::NOT_FOUND,
        Kind::AlreadyExists => Code::ALREADY_EXISTS,
        Kind::FailedPrecondition => Code::FAILED_PRECONDITION,
        Kind::Unimplemented => Code::UNIMPLEMENTED,
        Kind::DeadlineExceeded => Code::DEADLINE_EXCEEDED,
        Kind::Aborted => Code::ABORTED,
        Kind::Unavailable => Code::UNAVAILABLE,
        Kind::Internal => Code::INTERNAL,
    }
}

/// The status of an error.
pub fn status(error: &Error) -> ttrpc::Error {
    get_rpc_status(code(error.kind()), error.chain())
}

/// The status of a call that is not built (yet), with a sentence that says why.
pub fn unimplemented(sentence: &str) -> ttrpc::Error {
    get_rpc_status(Code::UNIMPLEMENTED, sentence)
}

/// The status for an id that nobody knows.
pub fn not_found(what: &str, id: &str) -> ttrpc::Error {
    get_rpc_status(Code::NOT_FOUND, format!("{what} {id} not found"))
}

#[cfg(test)]
mod tests {
    use runtime_core::lifecycle::State;

    use super::*;

    #[test]
    fn every_kind_has_the_code_that_callers_expect() {
        let id = || "c1".to_owned();
        for (error, expected) in [
            (Error::NotFound { id: id() }, Code::NOT_FOUND),
            (Error::AlreadyExists { id: id() }, Code::ALREADY_EXISTS),
            (
                Error::WrongState { id: id(), verb: "delete", state: State::Running },
                Code::FAILED_PRECONDITION,
            ),
            (Error::Deadline { id: id(), verb: "delete" }, Code::DEADLINE_EXCEEDED),
            (Error::Cancelled { id: id() }, Code::ABORTED),
            (Error::Unsupported { feature: id(), remedy: "x" }, Code::UNIMPLEMENTED),
            (Error::Locked { path: "/x".into() }, Code::UNAVAILABLE),
            (Error::StillAlive { pid: 7 }, Code::INTERNAL),
            (
                Error::CreateFailed {
                    cause: Box::new(Error::Invalid { field: id(), value: id(), problem: id(), remedy: id() }),
                    rollback: String::new(),
                },
                Code::INVALID_ARGUMENT,
            ),
        ] {
            let ttrpc::Error::RpcStatus(status) = status(&error) else { panic!("no status") };
            assert_eq!(status.code(), expected, "{error}");
        }
    }
}
