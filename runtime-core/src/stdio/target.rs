//! What the client asks for: where a stream comes from or goes to.

use std::path::PathBuf;

use super::{logger::Logger, uri};
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
    /// A program that is executed for it.
    Logger(Logger),
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
        let targets = Self {
            stdin,
            stdout: target(&paths.stdout, "stdout")?,
            stderr: target(&paths.stderr, "stderr")?,
        };
        if paths.terminal {
            // It has one stream.
            return Ok(Self { stderr: Target::Nothing, ..targets });
        }
        if matches!(targets.stderr, Target::Logger(_)) && targets.stderr != targets.stdout {
            let problem = "is another logger than that of stdout";
            return Err(invalid("stderr", &paths.stderr, problem, "give the same for both"));
        }
        Ok(targets)
    }
}

fn target(value: &str, field: &'static str) -> Result<Target, Error> {
    if value.is_empty() {
        return Ok(Target::Nothing);
    }
    let absolute = |path: &str| {
        if path.starts_with('/') {
            return Ok(PathBuf::from(path));
        }
        Err(invalid(field, value, "has no absolute path", "give one that begins with a slash"))
    };
    let Some((scheme, rest)) = value.split_once("://") else { return absolute(value).map(Target::Fifo) };
    let decoded = uri::parse(rest);
    let (path, query) =
        decoded.ok_or_else(|| invalid(field, value, "is not a valid URI", "encode it as one"))?;
    let path = absolute(&path)?;
    match scheme {
        "fifo" => Ok(Target::Fifo(path)),
        "file" => Ok(Target::File(path)),
        "binary" => Ok(Target::Logger(Logger::new(path, query, false))),
        "binary-v2" => Ok(Target::Logger(Logger::new(path, query, true))),
        _ => Err(Error::Unsupported {
            feature: format!("{field}: {scheme}:// stdio"),
            remedy: "use FIFOs, file:// or binary://",
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
        let one = StdioPaths { stderr: "binary:///b?k=v".to_owned(), ..paths("", "binary:///b?k=v") };
        let targets = Targets::of(&one).unwrap();
        assert!(matches!(&targets.stderr, Target::Logger(logger) if logger.args == ["k", "v"]));
        let two = StdioPaths { stderr: "binary:///b?k=w".to_owned(), ..one };
        assert!(Targets::of(&two).unwrap_err().to_string().contains("stderr"));
        assert_eq!(Targets::of(&paths("", "fifo:///out")).unwrap().stdout, Target::Fifo("/out".into()));
        for (stdin, stdout) in [
            ("", "file://log"),
            ("", "out"),
            ("", "file://"),
            ("file:///in", ""),
            ("", "npipe:///x"),
            ("", "file:///%"),
        ] {
            let e = Targets::of(&paths(stdin, stdout)).unwrap_err().to_string();
            assert!(e.contains(if stdin.is_empty() { "stdout" } else { "stdin" }), "{e}");
        }
    }
}
