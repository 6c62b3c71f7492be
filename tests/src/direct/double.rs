//! Doubles of the OCI runtime: scripts that do something of their own in one of its verbs, and are the real one else.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Bench, Proc, eventually_some, runc};

/// A runtime that goes on as the real one until its verb comes, and does this then.
pub fn double(bench: &Bench, verb: &str, script: &str) -> String {
    let case = format!("case \" $* \" in *' {verb} '*) {script};; esac");
    write(&bench.scratch().join("double"), &case).to_string_lossy().into_owned()
}

/// What a double does in the place of the real one: the same for so long, and then it is killed.
pub fn killed_after(millis: u32) -> String {
    format!(
        "\"$real\" \"$@\" & child=$!; sleep 0.{millis:03}; kill -9 $child 2>/dev/null; wait $child; kill -9 $$"
    )
}

/// What a double does in the place of the real one: the same until this command of bash succeeds, in which `$child` is
/// the real one's pid, and then it is killed. [`was_reached`] tells it
/// from one that ended before.
pub fn killed_when(bench: &Bench, condition: &str) -> String {
    let reached = bench.scratch().join("reached");
    fs::remove_file(&reached).ok();
    format!(
        "\"$real\" \"$@\" & child=$!; until {condition}; do [ -e /proc/$child/exe ] || break; done; \
         [ -e /proc/$child/exe ] && echo $child >{}; kill -9 $child 2>/dev/null; wait $child; kill -9 $$",
        reached.display()
    )
}

/// Whether a double has got to where it was to be killed.
pub fn was_reached(bench: &Bench) -> bool {
    bench.scratch().join("reached").exists()
}

/// What a double does in the place of the real one: it says so, and never comes to an end.
pub fn hangs(bench: &Bench) -> String {
    let hanging = bench.scratch().join("hanging");
    fs::remove_file(&hanging).ok();
    format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", hanging.display())
}

/// The double that hangs.
pub fn hanging(bench: &Bench) -> Proc {
    // Where two do, one may move the file that the other has just emptied.
    let pid = || fs::read_to_string(bench.scratch().join("hanging")).ok()?.trim().parse().ok();
    Proc::of(eventually_some("the OCI runtime hangs", pid))
}

/// A runtime that notes how it is called, and is the real one.
#[derive(Debug)]
pub struct Spy {
    /// Its program.
    pub program: PathBuf,
    notes: PathBuf,
}

impl Spy {
    /// One with this name, in the bench's folder.
    pub fn new(bench: &Bench, name: &str) -> Self {
        let (program, notes) = (bench.scratch().join(name), bench.scratch().join(format!("{name}.calls")));
        // One write for each call: they do not mix.
        let note =
            format!("words=(\"$@\"); IFS=$'\\t'; printf '%s\\n' \"${{words[*]}}\" >>{}", notes.display());
        write(&program, &note);
        Self { program, notes }
    }

    /// The arguments of each call of this verb so far.
    pub fn calls(&self, verb: &str) -> Vec<Vec<String>> {
        let text = fs::read_to_string(&self.notes).unwrap_or_default();
        let calls = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
        calls.filter(|words| words.iter().any(|word| word == verb)).collect()
    }
}

/// Writes a program that does this first and is the real runtime then.
fn write(path: &Path, first: &str) -> PathBuf {
    let real = runc().canonicalize().unwrap();
    // The guest of `make test-v2` has no bash, and only scripts that do not need it.
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let text = format!("#!{shell}\nreal={}\n{first}\nexec \"$real\" \"$@\"\n", real.display());
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
    path.to_owned()
}
