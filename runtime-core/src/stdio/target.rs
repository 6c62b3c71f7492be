//! What the client asks for: where a stream comes from or goes to.

use std::path::PathBuf;

use crate::{Error, contract::invalid, record::StdioPaths};

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Not wanted.
    Nothing,
    /// A FIFO of the client's.
    Fifo(PathBuf),
    /// A file that it is appended to.
    File(PathBuf),
}

/// Where the three streams go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Standard input: a FIFO, or nothing.
    pub stdin: Target,
    /// Standard output.
    pub stdout: Target,
    /// Standard error; of a terminal: nothing.
    pub stderr: Target,
}

impl Targets {
    /// Understands what is asked for; what cannot be served is refused by name.
    pub fn of(paths: &StdioPaths) -> Result<Self, Error> {
        let stdin = target(&paths.stdin, "stdin")?;
        if !matches!(stdin, Target::Nothing | Target::Fifo(_)) {
            return Err(invalid("stdin", &paths.stdin, "is nothing to read from", "give the path of a FIFO"));
        }
        Ok(Self { stdin, stdout: target(&paths.stdout, "stdout")?, stderr: target(&paths.stderr, "stderr")? })
    }
}

fn target(value: &str, field: &'static str) -> Result<Target, Error> {
    let (scheme, path) = value.split_once("://").unwrap_or(("fifo", value));
    if path.is_empty() && scheme == "fifo" {
        return Ok(Target::Nothing);
    }
    let absolute = |path: &str| {
        if path.starts_with('/') {
            return Ok(PathBuf::from(path));
        }
        Err(invalid(field, value, "has no absolute path", "give one that begins with a slash"))
    };
    match scheme {
        "fifo" => Ok(Target::Fifo(absolute(path)?)),
        "file" => Ok(Target::File(absolute(path)?)),
        _ => Err(Error::Unsupported {
            feature: format!("{field}: {scheme}:// stdio"),
            remedy: "use FIFOs or file://",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(stdin: &str, stdout: &str) -> StdioPaths {
        StdioPaths { stdin: stdin.to_owned(), stdout: stdout.to_owned(), ..StdioPaths::default() }
    }

    #[test]
    fn each_scheme_is_understood_and_what_is_wrong_is_named() {
        let targets = Targets::of(&paths("/in", "file:///var/log/c1")).unwrap();
        assert_eq!(targets.stdin, Target::Fifo("/in".into()));
        assert_eq!(targets.stdout, Target::File("/var/log/c1".into()));
        assert_eq!(targets.stderr, Target::Nothing);
        assert_eq!(Targets::of(&paths("", "fifo:///out")).unwrap().stdout, Target::Fifo("/out".into()));
        for (stdin, stdout) in
            [("", "file://log"), ("", "out"), ("", "file://"), ("file:///in", ""), ("", "npipe://x")]
        {
            let e = Targets::of(&paths(stdin, stdout)).unwrap_err().to_string();
            assert!(e.contains(if stdin.is_empty() { "stdout" } else { "stdin" }), "{e}");
        }
    }
}
