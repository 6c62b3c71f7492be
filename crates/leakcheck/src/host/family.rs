//! Who descends from whom.

use std::collections::{HashMap, HashSet};

use super::proc_dir::Stat;

/// The caller and its ancestors are not even asked: they wait for this very look, so they are nobody's leak, although a
/// shell may have the marker in its command line. And init may have more privileges than we, and refuse to be read.
pub(crate) fn caller_and_ancestors(all: &[Stat]) -> HashSet<i32> {
    let parents: HashMap<i32, i32> = all.iter().map(|stat| (stat.pid, stat.ppid)).collect();
    let caller = rustix::process::getpid().as_raw_nonzero().get();
    let line = std::iter::successors(Some(caller), |pid| parents.get(pid).copied());
    // Read one after the other, the parents of processes that came and went could seem to form a ring.
    line.take(all.len() + 1).collect()
}

/// The pids and those of everything that descends from them.
pub(crate) fn with_descendants(mut next: Vec<i32>, all: &[Stat], bystanders: &HashSet<i32>) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for stat in all {
        children.entry(stat.ppid).or_default().push(stat.pid);
    }
    let mut ours = HashSet::new();
    while let Some(pid) = next.pop() {
        if !bystanders.contains(&pid) && ours.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, ppid: i32) -> Stat {
        Stat { pid, comm: String::new(), state: 'S', ppid, kernel_thread: false, threads: 1, start: 1 }
    }

    fn ours(all: &[Stat], marked: &[i32]) -> HashSet<i32> {
        with_descendants(marked.to_vec(), all, &caller_and_ancestors(all))
    }

    #[test]
    fn descendants_come_along_and_parents_do_not() {
        let all = [stat(-1, 0), stat(-2, -1), stat(-3, -2), stat(-4, -3)];
        assert_eq!(ours(&all, &[-2]), HashSet::from([-2, -3, -4]));
    }

    #[test]
    fn the_caller_and_its_ancestors_are_bystanders() {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let all = [stat(-1, 0), stat(-2, -1), stat(me, -2), stat(-5, me)];
        assert_eq!(ours(&all, &[-1, -2, me, -5]), HashSet::from([-5]));
        assert!(ours(&all, &[-1, me]).is_empty());
    }
}
