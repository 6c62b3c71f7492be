//! Containers that run from beginning to end.

use urunc_tests::harness::{Events, Image, Test, Version, tiny};

/// The console is printed, all of it and nothing else, and the exit status is the one that the guest was told.
pub fn the_console_is_printed_and_the_status_is_the_guests(version: Version) {
    Test::with(version, &[Image::Tiny, Image::Debian], |containerd| {
        for status in [0, 1, 7, 127] {
            let word = format!("exit={status}");
            let done = containerd.run(Image::Tiny, "tiny", &tiny(&[&word])).expect(status);
            assert_eq!(done.text(), format!("tiny: tiny -- {word}\n"));
        }
        let done = containerd.run(Image::Debian, "debian", &["/init", "echo", "hello"]).expect(0);
        let text = done.text();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        for line in ["guest: arg[0]=<echo>", "guest: arg[1]=<hello>", "hello", "guest: ended with status 0"] {
            assert!(lines.contains(&line), "no line {line:?}: {done}");
        }
    });
}

/// An id is free as soon as its container is gone: nothing of the one before is met.
pub fn the_same_id_is_used_again_at_once_two_hundred_times(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        for round in 0..200 {
            let (status, said) = (round % 128, format!("say=round-{round}"));
            let words = [said.as_str(), &format!("exit={status}")];
            let done = containerd.run(Image::Tiny, "again", &tiny(&words)).expect(status);
            assert!(done.text().ends_with(&format!("\nround-{round}\n")), "{done}");
        }
    });
}

/// A guest that is gone before anybody looks was started all the same, and its events are in order.
pub fn a_guest_that_exits_at_once_is_started_a_hundred_times(version: Version) {
    Test::with(version, &[Image::Tiny], |containerd| {
        let events = Events::listen(containerd, Image::Tiny);
        let ids: Vec<_> = (0..100).map(|n| format!("short{n}")).collect();
        for id in &ids {
            containerd.run(Image::Tiny, id, &tiny(&["exit=3"])).expect(3);
        }
        let order = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
        for id in &ids {
            events.expect(id, &order);
        }
        let exits: Vec<_> = events.tasks().into_iter().filter(|e| e.topic == "/tasks/exit").collect();
        assert!(exits.iter().all(|e| e.body["exit_status"] == 3), "{exits:?}");
    });
}
