//! `--version`: what the program is, and whether it can be used.

use std::{path::Path, time::Instant};

use crate::{Error, call::Call};

/// Which version a runtime has to have at least, and why.
const LEAST: [(&str, (u32, u32), &str); 2] = [
    ("runc", (1, 0), "release candidates have cgroup v2 as an experiment, and other words for their errors"),
    ("crun", (1, 0), "older ones promise neither their options nor cgroup v2"),
];

/// What a runtime says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its own name: `runc`, `crun`, or that of another one that speaks their language.
    pub name: String,
    /// Its version, as it says it.
    pub version: String,
    /// The version of the OCI runtime specification.
    pub spec: String,
}

/// Asks a program for its version: an error if it is no OCI runtime, or too old a one.
pub fn probe(program: &Path, deadline: Instant) -> Result<Version, Error> {
    let mut call = Call::new(program, "--version")?;
    // crun makes its root whatever it is asked: this one is there.
    call.command().args(["--root", "/", "--version"]);
    let unusable = |problem: String, remedy: &str| Error::Unusable {
        program: program.to_owned(),
        problem,
        remedy: remedy.to_owned(),
    };
    let said = match call.run_as_it_is(deadline) {
        Err(Error::Refused { message, .. }) => {
            return Err(unusable(
                format!("`--version` fails: {message}"),
                "install runc or crun, whole, or name another program",
            ));
        }
        said => said?,
    };
    let version = parse(&said).ok_or_else(|| {
        let line = said.lines().next().unwrap_or_default();
        unusable(format!("its version is {line:?}, not that of an OCI runtime"), "name runc or crun")
    })?;
    match LEAST
        .iter()
        .find(|(name, least, _)| *name == version.name && !is_at_least(&version.version, *least))
    {
        None => Ok(version),
        Some((name, (major, minor), why)) => Err(unusable(
            format!("it is {name} {} ({why})", version.version),
            &format!("install {name} {major}.{minor} or later"),
        )),
    }
}

/// The first line "NAME version VERSION" and the first "spec: VERSION".
fn parse(said: &str) -> Option<Version> {
    let (name, version) = said.lines().find_map(|line| line.split_once(" version "))?;
    let spec = said.lines().find_map(|line| line.strip_prefix("spec:"))?;
    let clean = |text: &str| text.trim().to_owned();
    Some(Version { name: clean(name), version: clean(version), spec: clean(spec) })
}

/// A release candidate is older than what it is a candidate for.
fn is_at_least(version: &str, (major, minor): (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    let own = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let is_candidate = version.contains("-rc") || version.contains("~rc");
    own > (major, minor) || own == (major, minor) && !(is_candidate && numbers.next().unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_answers_are_understood() {
        let runc = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\nspec: 1.0.2-dev\ngo: go1.19.8\n";
        let wanted = |name: &str, version: &str, spec: &str| {
            let [name, version, spec] = [name, version, spec].map(str::to_owned);
            Some(Version { name, version, spec })
        };
        assert_eq!(parse(runc), wanted("runc", "1.1.5+ds1", "1.0.2-dev"));
        let crun = "crun version 1.8.1\ncommit: f8a\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +CAP\n";
        assert_eq!(parse(crun), wanted("crun", "1.8.1", "1.0.0"));
        assert_eq!(parse("bash, version 5\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn old_ones_are_told_from_new_ones() {
        for good in ["1.0.0", "1.0", "1.1.5+ds1", "1.4.0-rc.1", "2.0.0", "10.1", "1.0.1-rc1"] {
            assert!(is_at_least(good, (1, 0)), "{good}");
        }
        for old in ["1.0.0-rc93", "1.0.0~rc6+dfsg1", "0.21", "", "unknown"] {
            assert!(!is_at_least(old, (1, 0)), "{old}");
        }
    }
}
