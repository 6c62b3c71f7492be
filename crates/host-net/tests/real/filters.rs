//! Redirect filters: whose they are, and that only ours go.

use std::sync::Barrier;

use host_net::{
    IngressRemoval, NetnsId, enter, find, has_redirect, look, make_ingress, redirect, remove_ingress,
    remove_redirect, remove_stale,
};

use crate::ground::{A, B, census, filters, fresh, ip, is_as, let_go, mark, skip, tap, tc, txid, veth};

/// An interface that `look` finds, with our ingress qdisc.
fn pod() -> u32 {
    let v = veth("v0");
    ip("addr add 10.1.0.2/24 dev v0");
    assert!(make_ingress(v).unwrap());
    v
}

#[test]
fn is_seen_with_its_mark_and_leaves_nothing() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        let before = census();
        redirect(v, t, &mark(A, true)).unwrap();
        assert_eq!(look().unwrap().unwrap().tied, [mark(A, true)]);
        let shown = filters("v0");
        for word in ["protocol all pref 49153", "Egress Redirect to device t0", "cookie 7572754161"] {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        assert_eq!(look().unwrap().unwrap().tied, []);
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 0, "twice is fine");
        is_as(&before);
    });
}

#[test]
fn two_marks_do_not_mix() {
    fresh(|| {
        let v = pod();
        let (_a, ta) = tap("ta");
        let (_b, tb) = tap("tb");
        let empty = census();
        redirect(v, ta, &mark(A, true)).unwrap();
        let only_a = census();
        redirect(v, tb, &mark(B, false)).unwrap();
        assert_eq!(look().unwrap().unwrap().tied, [mark(A, true), mark(B, false)]);
        assert_eq!(remove_redirect(v, &txid("aaaaaaaaaaa3")).unwrap(), 0);
        assert_eq!(remove_redirect(v, &txid(B)).unwrap(), 1);
        is_as(&only_a);
        assert!(has_redirect(v, &txid(A)).unwrap() && !has_redirect(v, &txid(B)).unwrap());
        redirect(v, tb, &mark(B, false)).unwrap();
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1, "the older one first");
        assert_eq!(look().unwrap().unwrap().tied, [mark(B, false)]);
        assert_eq!(remove_redirect(v, &txid(B)).unwrap(), 1);
        is_as(&empty);
    });
}

#[test]
fn both_flags_of_one_transaction_go() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        let empty = census();
        redirect(v, t, &mark(A, true)).unwrap();
        redirect(v, t, &mark(A, false)).unwrap();
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 2);
        is_as(&empty);
    });
}

#[test]
fn a_stale_one_is_not_tied_and_goes() {
    fresh(|| {
        let v = pod();
        let (held, ta) = tap("ta");
        let (_b, tb) = tap("tb");
        redirect(v, tb, &mark(B, false)).unwrap();
        let only_b = filters("v0");
        redirect(v, ta, &mark(A, true)).unwrap();
        assert_eq!(remove_stale(v).unwrap(), [], "nothing is stale yet");
        let_go(held, "ta");
        let seen = look().unwrap().unwrap();
        assert_eq!((seen.tied, seen.stale), (vec![mark(B, false)], vec![mark(A, true)]));
        assert!(has_redirect(v, &txid(A)).unwrap(), "it is there, though stale");
        // A new interface, perhaps with the same number, does not revive it.
        let (_again, _) = tap("ta");
        assert_eq!(look().unwrap().unwrap().tied, [mark(B, false)]);
        assert_eq!(remove_stale(v).unwrap(), [mark(A, true)]);
        assert_eq!(remove_stale(v).unwrap(), []);
        assert_eq!(filters("v0"), only_b);
    });
}

#[test]
fn strangers_at_every_priority_survive() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        for filter in [
            // At the priority that would be ours, with the same shape.
            "protocol all prio 49153 u32 match u8 0 0 action mirred egress redirect dev t0",
            "protocol all prio 49155 u32 match u8 0 0 action mirred egress redirect dev t0 cookie 75727541",
            "protocol all prio 1 u32 match u8 0 0 action mirred egress mirror dev t0",
            "protocol ip prio 49160 u32 match ip src 1.1.1.1/32 classid 1:1",
            "protocol all u32 match u8 0 0 classid 1:1",
        ] {
            tc(&format!("filter add dev v0 ingress {filter}"));
        }
        tc("filter add dev v0 ingress protocol all prio 3 handle 5: u32 divisor 16");
        let before = census();
        redirect(v, t, &mark(A, true)).unwrap();
        assert!(filters("v0").contains("pref 49161"), "after all others: {}", filters("v0"));
        assert_eq!(remove_stale(v).unwrap(), []);
        assert_eq!(remove_redirect(v, &txid(B)).unwrap(), 0);
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        is_as(&before);
        assert_eq!(remove_ingress(v).unwrap(), IngressRemoval::InUse);
    });
}

#[test]
fn a_stranger_in_our_own_classifier_survives() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        redirect(v, t, &mark(A, true)).unwrap();
        if filters("v0").contains(" matchall ") {
            // Then nobody else can be in it; this is about u32, where anybody can.
            return skip("host-net: this kernel has matchall, so nobody shares a classifier with us");
        }
        tc("filter add dev v0 ingress protocol all prio 49153 u32 match u32 1 0xffffffff classid 1:1");
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        let left = filters("v0");
        assert!(left.contains("match 00000001/ffffffff") && !left.contains("mirred"), "{left}");
        tc("filter del dev v0 ingress protocol all prio 49153 u32");
        assert_eq!(filters("v0"), "");
    });
}

#[test]
fn a_stranger_who_uses_our_action_survives() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        redirect(v, t, &mark(A, true)).unwrap();
        let shown = tc("actions ls action mirred");
        let number = shown.split("index ").nth(1).unwrap().split_whitespace().next().unwrap();
        tc(&format!(
            "filter add dev v0 ingress protocol all prio 9 u32 match u8 0 0 action mirred index {number}"
        ));
        assert_eq!(filters("v0").matches("cookie 75727541").count(), 2, "our cookie is shown at theirs");
        assert_eq!(look().unwrap().unwrap().tied, [mark(A, true)]);
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        assert!(filters("v0").contains("pref 9 "), "{}", filters("v0"));
    });
}

#[test]
fn the_last_priority_is_taken() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        tc("filter add dev v0 ingress protocol all prio 65535 u32 match u8 0 0 classid 1:1");
        let before = census();
        redirect(v, t, &mark(A, true)).unwrap();
        assert!(filters("v0").contains("pref 65534"), "{}", filters("v0"));
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        is_as(&before);
    });
}

#[test]
fn more_filters_than_fit_into_one_message() {
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        // The first has as many actions as a filter can have: more than the kernel's first message holds for a reader
        // with a small buffer.
        let actions =
            " action mirred egress mirror dev t0 cookie 00112233445566778899aabbccddeeff".repeat(32);
        tc(&format!("filter add dev v0 ingress protocol all prio 1 u32 match u8 0 0{actions}"));
        for n in 0..300 {
            tc(&format!(
                "filter add dev v0 ingress protocol ip prio {} u32 match ip src 1.1.1.1 classid 1:1",
                n + 2
            ));
        }
        let before = census();
        redirect(v, t, &mark(A, true)).unwrap();
        assert_eq!(look().unwrap().unwrap().tied, [mark(A, true)]);
        assert_eq!(remove_redirect(v, &txid(A)).unwrap(), 1);
        is_as(&before);
    });
}

#[test]
fn many_at_once() {
    const CALLERS: usize = 8;
    const ROUNDS: usize = 20;
    fresh(|| {
        let v = pod();
        let (_tun, t) = tap("t0");
        let before = census();
        let here = find(NetnsId::current().unwrap(), &["/proc/thread-self/ns/net".into()]).unwrap().unwrap();
        let start = Barrier::new(CALLERS);
        std::thread::scope(|scope| {
            for n in 0..CALLERS {
                let (here, start) = (&here, &start);
                scope.spawn(move || {
                    enter(here).unwrap();
                    let id = format!("{n:012x}");
                    start.wait();
                    for _ in 0..ROUNDS {
                        redirect(v, t, &mark(&id, true)).unwrap();
                        assert!(has_redirect(v, &txid(&id)).unwrap());
                        assert_eq!(remove_redirect(v, &txid(&id)).unwrap(), 1);
                        assert!(!has_redirect(v, &txid(&id)).unwrap());
                    }
                });
            }
        });
        is_as(&before);
    });
}
