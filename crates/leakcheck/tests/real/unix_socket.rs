//! Unix sockets.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use leakcheck::Kind;

use crate::guards::{Folder, Ground, Running, unique};
use crate::holder;

#[test]
fn a_bound_one_and_then_its_leftover_file() {
    let ground = Ground::with(|scope, folder| scope.root(folder));
    let path = ground.folder.join("x.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let entry = ground.one(Kind::UnixSocket);
    assert_eq!(entry.name, path.to_string_lossy());
    assert!(entry.detail.starts_with("bound, in net:["), "{entry:?}");
    drop(listener);
    assert_eq!(ground.one(Kind::UnixSocket).detail, "a file that nobody listens on");
    fs::remove_file(path).unwrap();
    ground.is_clean();
}

#[test]
fn an_abstract_one() {
    let ground = Ground::new();
    let address = SocketAddr::from_abstract_name(format!("x {}", ground.marker)).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(ground.one(Kind::UnixSocket).name, format!("@x {}", ground.marker));
    drop(listener);
    ground.is_clean();
}

#[test]
fn one_in_a_namespace_in_scope() {
    let ground = Ground::new();
    let code = "exec unshare -n python3 -c '
import os, socket
held = socket.socket(socket.AF_UNIX)
held.bind(chr(0) + os.environ[\"LEAKCHECK_MARKER\"])
os.set_inheritable(held.fileno(), True)
os.execvp(\"sleep\", [\"sleep\", \"1000\"])'";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return crate::guards::skip("a socket in a namespace", "there is no python3");
    }
    let running = Running::shell(&ground.marker, code).asleep();
    let namespace = ground.one(Kind::NetNs).name;
    let entry = ground.one(Kind::UnixSocket);
    assert_eq!(entry.detail, format!("bound, in {namespace}"));
    drop(running);
    ground.is_clean();
}

#[test]
fn one_elsewhere_that_a_process_in_scope_has_open() {
    let ground = Ground::new();
    let elsewhere = Folder::make(std::env::temp_dir().join(unique("other"))).unwrap();
    let path = elsewhere.0.join("s");
    let running = holder::start(&ground, path.to_str().unwrap());
    assert_eq!(ground.one(Kind::UnixSocket).name, path.to_string_lossy());
    drop(running);
    fs::remove_file(path).unwrap();
    ground.is_clean();
}

#[test]
fn a_strangers_is_not_reported() {
    let ground = Ground::with(|scope, folder| scope.root(folder));
    let other = Ground::new();
    let _listener = UnixListener::bind(other.folder.join("x.sock")).unwrap();
    ground.is_clean();
}
