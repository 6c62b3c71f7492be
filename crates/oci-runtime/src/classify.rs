//! What a runtime's words mean.
//!
//! Callers draw conclusions: "absent" is taken for gone, "exists" for nothing done. So these two are recognised by the
//! whole form of the message, and never by a word that a path or a hook of a container may bring in.

use serde::Deserialize;

use crate::Case;

#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// The errors in a log of JSON lines: mostly one. (Before its own error runc may have some of its first stages, as
/// `fatal`; crun may have several that belong together.)
pub(crate) fn errors_of(log: &str) -> String {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let errors = lines.filter(|line| line.level == "error").map(|line| line.msg.trim().to_owned());
    errors.collect::<Vec<_>>().join("; ")
}

/// The case of a message about the container `id`, whose state is in the folder `state`.
pub(crate) fn classify(message: &str, id: &str, state: &str) -> Case {
    let says = |part: &str| message.contains(part);
    let verb = ["exec failed: ", "runc create failed: "];
    let bare = verb.iter().find_map(|prefix| message.strip_prefix(prefix)).unwrap_or(message);
    let is = |whole: &str| bare == whole;
    let lower = message.to_lowercase();
    if is("container does not exist")
        || is(&format!("container {id:?} does not exist"))
        || is(&format!("container `{id}` does not exist"))
        || is(&format!("error opening file `{state}/status`: No such file or directory"))
        || is(&format!("cannot open directory '{state}': No such file or directory"))
        || is(&format!("cannot open directory `{state}`: No such file or directory"))
    {
        Case::Absent
    } else if is("container with given ID already exists")
        || is(&format!("container with id exists: {id}"))
        || is(&format!("container `{id}` already exists"))
    {
        Case::Exists
    } else if says("container not running")
        || says("container that has stopped")
        || says("in a stopped container")
        || says(&format!("container `{id}` is not running"))
    {
        Case::NotRunning
    } else if says("container not paused")
        || says("container is paused")
        || says("container paused")
        || says("in a paused container")
        || says(&format!("container `{id}` is paused"))
        || says(&format!("container `{id}` is not paused"))
        || says("already running container")
        || says("that is not stopped")
        || says("is not in `created` or `stopped` state")
        || says(&format!("{state}/exec.fifo"))
    {
        Case::WrongState
    } else if lower.contains("process already finished")
        || lower.split("; ").any(|error| error.ends_with("no such process"))
    {
        Case::Finished
    } else if lower.contains("permission denied") || lower.contains("operation not permitted") {
        Case::Denied
    } else {
        Case::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(message: &str) -> Case {
        classify(message, "c1", "/r/c1")
    }

    #[test]
    fn forms_of_other_versions() {
        assert_eq!(case("container \"c1\" does not exist"), Case::Absent);
        assert_eq!(case("container `c1` does not exist"), Case::Absent);
        assert_eq!(case("container with id exists: c1"), Case::Exists);
        assert_eq!(case("os: process already finished"), Case::Finished);
        assert_eq!(case("unable to signal init: no such process"), Case::Finished);
        assert_eq!(case("Permission denied"), Case::Denied);
    }

    #[test]
    fn words_of_a_container_prove_nothing() {
        let hook =
            "runc create failed: error running hook #0: exit status 1, stderr: container c1 already exists";
        assert_eq!(case(hook), Case::Other);
        let mount = "runc create failed: unable to start container process: error mounting \"/r/c1/status\": \
                     open /r/c1/status: no such file or directory";
        assert_eq!(case(mount), Case::Other);
        assert_eq!(case("error opening file `/r/c2/status`: No such file or directory"), Case::Other);
        assert_eq!(case("the container does not exist in the host's database"), Case::Other);
    }

    #[test]
    fn the_errors_of_a_log_are_what_is_marked_so() {
        let log = "nonsense\n{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"fatal\",\"msg\":\"f\"}\n\
                   {\"msg\":\"a\\n\",\"level\":\"error\",\"time\":\"t\"}\n{\"level\":\"error\",\"msg\":\"b\"}\n";
        assert_eq!(errors_of(log), "a; b");
        assert_eq!(errors_of(""), "");
    }
}
