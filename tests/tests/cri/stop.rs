//! A container is stopped, with and without a grace time, and removed while it runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use urunc_tests::harness::{BOOT, Container, Exit, Image, Member, Node, Pod, SOON, Setup, Version};

/// The power button for a guest that hears it; SIGKILL for one that does not, or when no grace is given.
pub fn a_guest_is_asked_and_then_killed(version: Version) {
    Node::with(version, &Setup::of(&[Image::Tiny, Image::Debian]), |node| {
        let pod = node.runp(&Pod::new("stop"));
        let ended = |member: &Member| -> Exit {
            let exit = node.wait_for_exit(member);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            let ago = i128::try_from(now).unwrap() - exit.finished;
            assert!((0..i128::from(u32::MAX) * 4).contains(&ago), "{exit:?} ended {ago} ns ago");
            node.rm(member);
            exit
        };
        let hang = Container::new("hang", Image::Tiny, &["tiny", "hang"]);
        let serve = Container::new("serve", Image::Debian, &["/init", "serve", "80"]);

        let member = node.run(&pod, &serve);
        node.wait_for(&member, "guest: serving", BOOT);
        node.stop(&member, Duration::from_secs(30));
        assert!(member.text().contains("guest: power button"), "{}", member.text());
        assert_eq!(ended(&member).code, 143);

        // No power button: killed at once, by the signal that asked.
        let member = node.run(&pod, &hang);
        node.wait_for(&member, "hang\n", SOON);
        node.stop(&member, Duration::from_secs(30));
        assert_eq!(ended(&member).code, 143);

        let member = node.run(&pod, &hang.clone().attempt(1));
        node.wait_for(&member, "hang\n", SOON);
        node.stop(&member, Duration::ZERO);
        assert_eq!(ended(&member).code, 137);

        let member = node.run(&pod, &hang.clone().attempt(2));
        let monitor = node.member(&member);
        node.rm_force(&member);
        assert!(!monitor.is_alive());

        // Made and never started; stopped twice; and by its own status.
        let member = node.create(&pod, &hang.clone().attempt(3));
        node.rm(&member);
        let seven = Container::new("seven", Image::Tiny, &["tiny", "exit=7"]);
        let member = node.run(&pod, &seven);
        assert_eq!(node.wait_for_exit(&member).code, 7);
        node.stop(&member, Duration::ZERO);
        assert_eq!(ended(&member).reason, "Error");

        node.stopp(&pod);
        node.stopp(&pod);
        node.rmp(&pod);
    });
}
