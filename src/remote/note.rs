//! Small files beside results: what jobs and those who wait for them tell each other. They lie where a store has them.

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStoreExt, PutMode, path::Path};

use super::{
    Progress, Remote, RemoteError, Watch,
    link::{Link, SLOTS},
};

/// No note is larger, in bytes: that of a submission holds the texts of a pipeline.
const LARGEST: u64 = 64 << 20;

impl Remote {
    /// Writes a note. One that is `new` must not be there yet.
    pub(crate) fn put_note(
        &self,
        path: &[&str],
        text: Vec<u8>,
        new: bool,
        watch: &mut Watch<'_>,
    ) -> Result<(), RemoteError> {
        let line = self.line()?;
        let mode = if new { PutMode::Create } else { PutMode::Overwrite };
        let at = line.link.note(path);
        line.wait(watch, &Progress::default(), line.link.write(&at, text, mode))
    }

    /// Reads notes; `None` for those that are not there, or are larger than any.
    pub(crate) fn notes(
        &self,
        paths: &[Vec<String>],
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Option<Vec<u8>>>, RemoteError> {
        let line = self.line()?;
        let link = &line.link;
        let read = |path: Path| async move {
            match link.read_small(&path, LARGEST).await {
                Err(RemoteError::Absent { .. }) => Ok(None),
                read => read,
            }
        };
        let reads: Vec<_> = paths.iter().map(|path| read(link.note(path))).collect();
        line.wait(watch, &Progress::default(), stream::iter(reads).buffered(SLOTS).try_collect())
    }

    /// Takes a note away, if it is there.
    pub(crate) fn drop_note(&self, path: &[&str], watch: &mut Watch<'_>) -> Result<(), RemoteError> {
        let line = self.line()?;
        let (link, at) = (&line.link, line.link.note(path));
        line.wait(watch, &Progress::default(), async {
            match link.within(link.patience.answer, "remove", &at, link.objects.delete(&at)).await {
                Err(RemoteError::Absent { .. }) => Ok(()),
                dropped => dropped,
            }
        })
    }
}

impl Link {
    fn note(&self, path: &[impl AsRef<str>]) -> Path {
        path.iter().fold(self.root.clone(), |path, part| path.join(part.as_ref()))
    }
}
