//! Links.

use leakcheck::{Kind, Scope, Snapshot};

use crate::guards::{Ground, Running, Undo, short, skip, unique};

#[test]
fn at_home_by_alias() {
    let ground = Ground::new();
    let (a, b) = (format!("lca{}", short()), format!("lcb{}", short()));
    let make = ["ip", "link", "add", &a, "type", "veth", "peer", "name", &b];
    let pair = match Undo::after(&make, &["ip", "link", "del", &a]) {
        Ok((_, pair)) => pair,
        Err(why) => return skip("a veth pair at home", &why),
    };
    ground.is_clean();
    Undo::after(&["ip", "link", "set", &a, "alias", &ground.marker], &["true"]).unwrap();
    let entry = ground.one(Kind::Link);
    assert!(entry.name.starts_with(&format!("{a}#")), "{entry:?}");
    assert_eq!(entry.detail, "veth, down, in the host's namespace");
    drop(pair);
    ground.is_clean();
}

#[test]
fn at_home_by_name() {
    let name = format!("lc{}", short());
    let ground = Ground::with(|scope, _| scope.marker(&name));
    let tap = match Undo::after(&["ip", "tuntap", "add", &name, "mode", "tap"], &["ip", "link", "del", &name])
    {
        Ok((_, tap)) => tap,
        Err(why) => return skip("a tap at home", &why),
    };
    let entry = ground.one(Kind::Link);
    assert!(entry.name.starts_with(&format!("{name}#")), "{entry:?}");
    drop(tap);
    ground.is_clean();
}

#[test]
fn every_link_in_a_namespace_in_scope() {
    let ground = Ground::new();
    let code =
        "exec unshare -n sh -c 'ip link add v0 type veth peer name v1; ip link set lo up; exec sleep 1000'";
    let running = Running::shell(&ground.marker, code).asleep();
    let leaks = ground.look();
    let namespace = leaks.of(Kind::NetNs).next().unwrap().name.clone();
    let names: Vec<_> = leaks.of(Kind::Link).map(|entry| entry.name.as_str()).collect();
    if names.is_empty() {
        return skip("links in a namespace", "no veth could be made");
    }
    let inside = format!(" in {namespace}");
    assert!(names.iter().all(|name| name.ends_with(&inside)), "{names:?}");
    let has = |name: &str| names.iter().any(|full| full.starts_with(name));
    assert!(has("v0#") && has("v1#") && !has("lo#"), "{names:?}");
    drop(running);
    ground.is_clean();
}

#[test]
fn a_tap_with_our_name_that_nobody_holds() {
    let scope = Scope::new().marker(unique("leakcheck"));
    let name = format!("urunc{}", short());
    let has = || Snapshot::take(&scope).entries().iter().any(|entry| entry.name.starts_with(&name));
    let tap = match Undo::after(&["ip", "tuntap", "add", &name, "mode", "tap"], &["ip", "link", "del", &name])
    {
        Ok((_, tap)) => tap,
        Err(why) => return skip("a tap with our name", &why),
    };
    assert!(has());
    drop(tap);
    assert!(!has());
}
