//! `crictl attach` to an ordinary container with a terminal.

use urunc_tests::harness::{Container, Image, Job, Member, Node, Pod, SOON, Setup, Version, on_terminal};

/// A client goes, or is killed, and the shell lives on; the next one attaches; two see the same; the shell's end is theirs.
pub fn a_terminal_is_attached_to_as_often_as_wanted(version: Version) {
    Node::with(version, &Setup::of(&[Image::Busybox]), |node| {
        let pod = node.runp(&Pod::new("attach"));
        let shell = Container::new("shell", Image::Busybox, &["sh"])
            .with("stdin", true.into())
            .with("tty", true.into());
        let member = node.run(&pod, &shell);
        let mut first = attach(node, &member);
        ask(&mut first, 6, 7);
        first.kill();
        assert_eq!(node.state(&member), "CONTAINER_RUNNING");

        let (mut second, third) = (attach(node, &member), attach(node, &member));
        // Both are there when both see what one of them types.
        ask(&mut second, 5, 9);
        third.wait_for("=45=", SOON);
        second.type_in("tty; exit 7\r");
        let done = second.wait(SOON).expect(0);
        assert!(done.text().contains("/dev/"), "{done}");
        third.wait(SOON).expect(0);
        assert_eq!(node.wait_for_exit(&member).code, 7);
        assert!(node.logs(&member).text().contains("=42="));
        node.stopp(&pod);
        node.rmp(&pod);
    });
}

fn attach(node: &Node, member: &Member) -> Job {
    let mut job = on_terminal(&node.crictl(&["attach", "-it", &member.id]));
    // Nothing says that it is attached but an answer.
    ask(&mut job, 1, 1);
    job
}

/// What is typed is echoed; the product is not typed.
#[track_caller]
fn ask(job: &mut Job, a: u32, b: u32) {
    job.type_in(&format!("echo =$(({a}*{b}))=\r"));
    job.wait_for(&format!("={}=", a * b), SOON);
}
