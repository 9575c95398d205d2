//! Reading from a remote, in bounded memory.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, path::Path};

use super::{RemoteError, link::Link};

/// Less than this in the time for an answer is as good as nothing, in bytes.
const TRICKLE: usize = 64 << 10;

/// What came of a file.
pub(super) enum Read {
    /// All that was asked for, in the pieces that it came in.
    Whole(Vec<Bytes>),
    /// The file has another size than it should, in bytes.
    OtherSize(u64),
}

impl Link {
    /// Reads a file of this size, or a part of it.
    pub(super) async fn read(&self, path: &Path, size: u64, part: Option<Range<u64>>) -> Result<Read, RemoteError> {
        let wanted = part.as_ref().map_or(size, |part| part.end - part.start);
        let (mut left, mut pause) = (self.patience.retries, Duration::from_millis(200));
        loop {
            // A request that fails has been made again by the client; here it is a body that was cut off.
            let found = self.open(path, part.clone()).await?;
            if found.meta.size != size {
                return Ok(Read::OtherSize(found.meta.size));
            }
            if matches!(found.payload, GetResultPayload::File(..)) {
                // In one go: as a stream it comes in small pieces.
                let bytes = self.within(self.patience.answer, "read", path, found.bytes()).await?;
                return Ok(Read::Whole(vec![bytes]));
            }
            let (mut pieces, mut came) = (Vec::new(), 0);
            let taken = self.stream(path, found, |piece| {
                came += piece.len() as u64;
                pieces.push(piece);
                Ok(came <= wanted)
            });
            match taken.await {
                Ok(()) if came == wanted => return Ok(Read::Whole(pieces)),
                Ok(()) if left == 0 => return Err(RemoteError::cut(&self.address, path)),
                Err(error) if left == 0 || !error.is_passing() => return Err(error),
                _ => {}
            }
            left -= 1;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Reads a small file whose size is not known; `None` if it is larger than `most`.
    pub(super) async fn read_small(&self, path: &Path, most: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let found = self.open(path, None).await?;
        if found.meta.size > most {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.stream(path, found, |piece| {
            bytes.extend_from_slice(&piece);
            Ok(bytes.len() as u64 <= most)
        })
        .await?;
        Ok((bytes.len() as u64 <= most).then_some(bytes))
    }

    pub(super) async fn open(&self, path: &Path, part: Option<Range<u64>>) -> Result<GetResult, RemoteError> {
        let options = GetOptions { range: part.map(GetRange::Bounded), ..GetOptions::default() };
        self.within(self.patience.answer, "read", path, self.objects.get_opts(path, options)).await
    }

    /// Hands on what comes, until it says false. A remote that only trickles is given up.
    pub(super) async fn stream(
        &self,
        path: &Path,
        found: GetResult,
        mut take: impl FnMut(Bytes) -> Result<bool, RemoteError>,
    ) -> Result<(), RemoteError> {
        let mut pieces = found.into_stream();
        let mut until = tokio::time::Instant::now() + self.patience.answer;
        let mut since = 0;
        loop {
            let Ok(piece) = tokio::time::timeout_at(until, pieces.next()).await else {
                return Err(RemoteError::silent(&self.address, "read", path, self.patience.answer));
            };
            let Some(piece) = piece else { return Ok(()) };
            let piece = piece.map_err(|error| RemoteError::of(&self.address, "read", path, &error))?;
            since += piece.len();
            if !take(piece)? {
                return Ok(());
            }
            if since >= TRICKLE {
                (since, until) = (0, tokio::time::Instant::now() + self.patience.answer);
            }
        }
    }
}
