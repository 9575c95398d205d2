//! What a remote has: records, read with the distrust that they deserve.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Progress, Remote, RemoteError, Watch,
    error::{MEND, line},
    link::{Link, SLOTS},
};
use crate::{key::CacheKey, store::Record};

/// No record is larger, in bytes: they list files and metrics.
const LARGEST: u64 = 16 << 20;

/// A record that a remote has, with its text there.
#[derive(Clone, Debug)]
pub struct Offered {
    /// What it says.
    pub record: Arc<Record>,
    pub(super) text: Arc<[u8]>,
}

/// What a remote has of some keys.
#[derive(Debug, Default)]
pub struct Offers {
    /// The records.
    pub records: BTreeMap<CacheKey, Offered>,
    /// Records that cannot be what they should be: each is a [`RemoteError::BadRecord`].
    pub bad: Vec<RemoteError>,
}

impl Remote {
    /// Looks for the records of these keys, without their objects.
    pub fn offers(&self, keys: &[CacheKey], watch: &mut Watch<'_>) -> Result<Offers, RemoteError> {
        let line = self.line()?;
        let link = &line.link;
        line.wait(watch, &Progress::default(), async {
            let found = stream::iter(keys.iter().copied()).map(|key| async move {
                match link.offered(key).await {
                    Err(error) if error.is_corruption() => Ok((key, Err(error))),
                    offered => offered.map(|offered| (key, Ok(offered))),
                }
            });
            let found: Vec<_> = found.buffer_unordered(SLOTS).try_collect().await?;
            let mut offers = Offers::default();
            for (key, offered) in found {
                match offered {
                    Ok(Some(offered)) => drop(offers.records.insert(key, offered)),
                    Ok(None) => {}
                    Err(error) => offers.bad.push(error),
                }
            }
            Ok(offers)
        })
    }
}

impl Link {
    /// The record of a key; `None` if there is none that this program reads.
    pub(super) async fn offered(&self, key: CacheKey) -> Result<Option<Offered>, RemoteError> {
        let path = self.record(key);
        let bad = |fault: String| RemoteError::BadRecord { path: path.to_string(), key, fault, advice: MEND };
        let text = match self.read_small(&path, LARGEST).await {
            Ok(Some(text)) => text,
            Ok(None) => return Err(bad(format!("is larger than {} MiB", LARGEST >> 20))),
            Err(RemoteError::Absent { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match Record::from_text(&text) {
            Some(record) => match record.fault(key) {
                Some(fault) => Err(bad(fault)),
                None => Ok(Some(Offered { record: Arc::new(record), text: text.into() })),
            },
            None if is_of_another_version(&text) => Ok(None),
            None => Err(bad(format!("is torn, altered or no record at all: it begins with `{}`", beginning(&text)))),
        }
    }
}

/// Whether a text is a record of another version of the program.
fn is_of_another_version(text: &[u8]) -> bool {
    let version = |text| serde_json::from_slice::<serde_json::Value>(text).ok()?.get("version")?.as_u64();
    version(text).is_some_and(|version| version != u64::from(Record::VERSION))
}

fn beginning(text: &[u8]) -> String {
    line(&String::from_utf8_lossy(&text[..text.len().min(40)]))
}
