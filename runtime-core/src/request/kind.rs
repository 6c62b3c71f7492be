//! What a spec tells of its container's kind. Pure.
//!
//! containerd copies the annotations of a pod into the spec of each of its containers (`pod_annotations`), so what a
//! container shares with its sandbox was said of the pod: of which container of it, only their images can tell.

use super::{Outline, ROLE, SANDBOX};
use crate::contract::{Keys, PREFIX};

/// What a CRI container that is no sandbox is called.
const CONTAINER: &str = "container";

/// What a spec tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is a guest, or the pod's sandbox.
    Ours,
    /// Nothing of the container itself. These keys, if any, are its pod's: then it is a guest if its image is described,
    /// or has the kernel that they name.
    Nothing(Keys),
}

/// Reads that. `pod`: the keys of the pod's sandbox, if it is known.
pub fn told(outline: &Outline, pod: Option<&Keys>) -> Told {
    let annotations = &outline.annotations;
    let role = annotations.get(ROLE).map(String::as_str);
    if role == Some(SANDBOX) {
        return Told::Ours;
    }
    let own = annotations.iter().filter(|(key, value)| key.starts_with(PREFIX) && !value.is_empty());
    let keys = Keys::from_pairs(own);
    let is_pods = |pod: &Keys| role == Some(CONTAINER) && keys.iter().all(|(k, v)| pod.get(k) == Some(v));
    if keys.is_empty() || pod.is_some_and(is_pods) { Told::Nothing(keys) } else { Told::Ours }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEYS: [(&str, &str); 2] =
        [("com.urunc.unikernel.unikernelType", "linux"), ("com.urunc.unikernel.binary", "/kernel")];

    fn spec(role: &str, pairs: &[(&str, &str)]) -> Outline {
        let mut annotations = json!({ROLE: role});
        for (key, value) in pairs {
            annotations[*key] = Value::from(*value);
        }
        serde_json::from_value(json!({"ociVersion": "1.0.2", "annotations": annotations})).unwrap()
    }

    fn keys(pairs: &[(&str, &str)]) -> Keys {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Keys::from_pairs(pairs.iter().map(|(k, v)| (k, v)))
    }

    #[test]
    fn what_was_said_of_the_pod_tells_nothing_of_the_container() {
        let pod = keys(&KEYS);
        let of_the_pod = |pairs: &[(&str, &str)]| told(&spec(CONTAINER, pairs), Some(&pod));
        assert_eq!(of_the_pod(&KEYS), Told::Nothing(pod.clone()));
        assert_eq!(of_the_pod(&KEYS[..1]), Told::Nothing(keys(&KEYS[..1])));
        assert_eq!(of_the_pod(&[]), Told::Nothing(Keys::default()));
        // An empty value counts as not given.
        assert_eq!(of_the_pod(&[("com.urunc.unikernel.initrd", "")]), Told::Nothing(Keys::default()));
    }

    #[test]
    fn a_word_of_its_own_makes_a_guest() {
        let pod = keys(&KEYS);
        let other = [KEYS[0], ("com.urunc.unikernel.binary", "/other")];
        let more = [KEYS[0], KEYS[1], ("com.urunc.unikernel.hypervisor", "qemu")];
        for pairs in [&other[..], &more] {
            assert_eq!(told(&spec(CONTAINER, pairs), Some(&pod)), Told::Ours, "{pairs:?}");
        }
        // Without its sandbox nobody knows whose words they are; without CRI there is no pod that could have said them.
        assert_eq!(told(&spec(CONTAINER, &KEYS), None), Told::Ours);
        assert_eq!(told(&spec("", &KEYS), Some(&pod)), Told::Ours);
        assert_eq!(told(&spec(SANDBOX, &KEYS), Some(&pod)), Told::Ours);
        assert_eq!(told(&spec(SANDBOX, &[]), None), Told::Ours);
    }
}
