//! `urunc image inspect`: what an image - an archive, an OCI layout, or a root file system that is laid out - would run
//! on this host, by the same reading and the same plan as a Create of it.

use std::{collections::HashMap, io::stdout, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args as ClapArgs;
use runtime_core::{
    config::Config,
    preview::{keys_of_image, preview},
};
use serde::Serialize;

use super::layout::Image;
use crate::{error::Error, inspect::plan::Shown, print};

/// Exit status when the image would not run.
const WOULD_NOT: u8 = 1;
/// Exit status when it is not known.
pub const UNKNOWN: u8 = 2;

/// The image's own description, and the most that is read of it: a byte more than the runtime takes.
const DESCRIPTION: &str = "urunc.json";
const MOST_DESCRIPTION: u64 = (1 << 20) + 1;
/// The keys that name a file of the image.
const PATHS: [&str; 2] = ["com.urunc.unikernel.binary", "com.urunc.unikernel.initrd"];

/// Which image
#[derive(ClapArgs)]
pub struct Args {
    /// Archive (docker or OCI), OCI layout, or root file system of the image
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Annotation that the container would have (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Program and arguments instead of the image's own
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What is told.
#[derive(Serialize)]
struct Report {
    image: Option<String>,
    command: Vec<String>,
    /// The keys of `urunc.json`, decoded.
    keys: Vec<(String, String)>,
    /// The keys in annotations and labels, which containerd does not hand to a shim by itself.
    annotations: Vec<(String, String)>,
    /// Why it would not run; nothing: it would.
    why_not: Option<String>,
    plan: Option<Shown>,
}

impl Args {
    /// Inspects; the exit status.
    pub fn run(self) -> Result<u8, Error> {
        let mut given = HashMap::new();
        for annotation in &self.annotations {
            let (key, value) = super::contract::pair("--annotation", annotation)?;
            given.insert(key.to_owned(), value.to_owned());
        }
        let config = Config::load().map_err(|source| Error::Configuration { source })?;
        let image = Image::open(&self.image)?;
        let path_of = self.image;
        let open = |source| Error::Open { option: "IMAGE", path: path_of.clone(), source };
        let description = image.root.text(DESCRIPTION, MOST_DESCRIPTION).map_err(open)?;
        let paths = paths(&given, &description);
        let command = if self.command.is_empty() { image.command } else { self.command };
        let (planned, keys) = image
            .root
            .look(&paths, |root| {
                let planned = preview(root, &command, &given, &config, &vmm_backends::monitors());
                (planned, keys_of_image(root).unwrap_or_default())
            })
            .map_err(open)?;
        let is_refused = !image.refused.is_empty();
        let (plan, mut why_not) = match planned {
            _ if is_refused => (None, Some(image.refused.join("; "))),
            Ok(plan) => (Some(Shown::of(&plan, None)), None),
            Err(e) => (None, Some(e.chain())),
        };
        if let Some(why) = &mut why_not {
            let kinds = paths.iter().filter_map(|path| Some((path, image.root.no_file(path)?)));
            kinds.for_each(|(path, kind)| why.push_str(&format!("; {path:?} is {kind}")));
        }
        if let Some(why) = &mut why_not
            && !is_refused
            && keys.is_empty()
            && !image.annotations.is_empty()
        {
            why.push_str("; the image has keys as annotations or labels only, which reach no shim: it needs a urunc.json");
        }
        let would_not = why_not.is_some();
        let report =
            Report { image: image.name, command, keys, annotations: image.annotations, why_not, plan };
        if self.json {
            print::json(&mut stdout(), &report)?;
        } else {
            print::text(&mut stdout(), &print::columns(&report.rows()))?;
        }
        Ok(if would_not { WOULD_NOT } else { crate::SUCCESS })
    }
}

/// The files that a look at the image may want: its description, and what the keys name, plain or base64.
fn paths(given: &HashMap<String, String>, description: &[u8]) -> Vec<String> {
    let decoded = STANDARD.decode(description.trim_ascii()).ok();
    let keys: HashMap<String, serde_json::Value> =
        serde_json::from_slice(decoded.as_deref().unwrap_or(description)).unwrap_or_default();
    let mut paths = vec![DESCRIPTION.to_owned()];
    for key in PATHS {
        let named = given.get(key).map(String::as_str);
        for value in named.into_iter().chain(keys.get(key).and_then(|value| value.as_str())) {
            let decoded = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            paths.extend([Some(value.to_owned()), decoded].into_iter().flatten());
        }
    }
    paths.retain(|path| !path.contains('\0'));
    paths.dedup();
    paths
}

impl Report {
    fn rows(self) -> Vec<Vec<String>> {
        let pair = |(key, value): &(String, String)| format!("{key} = {value:?}");
        let mut sections = vec![
            ("IMAGE", self.image.into_iter().collect()),
            ("COMMAND", if self.command.is_empty() { vec![] } else { vec![format!("{:?}", self.command)] }),
            ("URUNC.JSON", self.keys.iter().map(pair).collect::<Vec<_>>()),
        ];
        match self.why_not {
            Some(why) => {
                sections.push(("ANNOTATIONS", self.annotations.iter().map(pair).collect()));
                sections.push(("RUNS HERE", vec![format!("no: {why}")]));
            }
            None => sections.push(("RUNS HERE", vec!["yes".to_owned()])),
        }
        sections.extend(self.plan.into_iter().flat_map(Shown::rows).filter(|(name, _)| *name != "KEYS"));
        let rows = sections.into_iter().flat_map(|(name, values)| {
            let named = values.into_iter().enumerate();
            named.map(move |(n, value)| vec![if n == 0 { name.to_owned() } else { String::new() }, value])
        });
        rows.collect()
    }
}
