//! Many numbers: in memory, or in a mapped file where they are too many for that.
//!
//! Data larger than memory go through three hands: a [`Scratch`] says how much may stay in memory and where the rest goes, a
//! [`Collector`] takes numbers in order, and [`Values`] are what it gives, read like a slice either way. The results of a stage never
//! depend on which it was.

use std::{
    fmt,
    fs::File,
    io::{BufWriter, Write},
    ops::{Deref, Range},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::{Advice, Mmap};

use super::DataError;

/// Files that rows are dealt to at once, at most.
const MAX_FILES: usize = 256;

/// Bytes of a number.
const SIZE: usize = size_of::<f32>();

/// How much a stage keeps in memory, and where it puts what is more.
#[derive(Clone, Debug)]
pub struct Scratch {
    folder: PathBuf,
    in_memory: usize,
}

impl Scratch {
    /// Collections of more than `in_memory` bytes each go to files in a folder. The files have no names: they are gone with the last
    /// who reads them.
    pub fn new(folder: &Path, in_memory: u64) -> Self {
        Self { folder: folder.to_owned(), in_memory: usize::try_from(in_memory).unwrap_or(usize::MAX) }
    }

    /// All stays in memory.
    pub fn memory() -> Self {
        Self { folder: PathBuf::new(), in_memory: usize::MAX }
    }

    /// Whether so many bytes stay in memory.
    pub(super) fn holds(&self, bytes: u64) -> bool {
        bytes <= self.in_memory as u64
    }

    /// Begins a collection.
    pub fn collector(&self) -> Collector<'_> {
        Collector { scratch: self, memory: Vec::new(), file: None }
    }
}

/// Takes numbers in order.
#[derive(Debug)]
pub struct Collector<'a> {
    scratch: &'a Scratch,
    memory: Vec<f32>,
    /// Where all went once they were too many.
    file: Option<BufWriter<File>>,
}

impl Collector<'_> {
    /// Takes more numbers.
    pub fn extend(&mut self, numbers: &[f32]) -> Result<(), DataError> {
        if let Some(file) = &mut self.file {
            return write(file, numbers).map_err(DataError::io(&self.scratch.folder));
        }
        if self.scratch.holds(((self.memory.len() + numbers.len()) * SIZE) as u64) {
            self.memory.extend_from_slice(numbers);
            return Ok(());
        }
        let file = tempfile::tempfile_in(&self.scratch.folder).map_err(DataError::io(&self.scratch.folder))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let written = write(&mut file, &std::mem::take(&mut self.memory)).and_then(|()| write(&mut file, numbers));
        self.file = Some(file);
        written.map_err(DataError::io(&self.scratch.folder))
    }

    /// All numbers that it took.
    pub fn finish(self) -> Result<Values, DataError> {
        let Some(file) = self.file else { return Ok(self.memory.into()) };
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
        let values = file.and_then(|file| Bytes::of(&file)).map(Values::of_numbers);
        values.map_err(DataError::io(&self.scratch.folder))
    }
}

fn write(file: &mut impl Write, numbers: &[f32]) -> std::io::Result<()> {
    file.write_all(bytemuck::cast_slice(numbers))
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Bytes {
    Mapped(Mmap),
    /// In memory, aligned as numbers are; the last number may be a part of one.
    Read(Vec<f32>, usize),
}

impl Bytes {
    /// Maps a file, or reads it where the file system cannot map (some of those in user space and on a network).
    #[expect(unsafe_code, reason = "a mapped file must not change; see below")]
    pub(super) fn of(file: &File) -> std::io::Result<Self> {
        // SAFETY: only two sorts of files are mapped: those without a name, which no other process can open, and objects of the store,
        // which are read-only and never written to again. Whoever overwrites one all the same alters the numbers that are read, which are
        // plain floats and valid whatever their bits; whoever cuts one short ends the worker process, and its stage fails.
        match unsafe { Mmap::map(file) } {
            Ok(map) => Ok(Self::Mapped(map)),
            Err(_) => Self::read(file),
        }
    }

    fn read(file: &File) -> std::io::Result<Self> {
        let too_large = |_| std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let length = usize::try_from(file.metadata()?.len()).map_err(too_large)?;
        let mut numbers = Vec::new();
        numbers
            .try_reserve_exact(length.div_ceil(SIZE))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::OutOfMemory))?;
        numbers.resize(length.div_ceil(SIZE), 0.0);
        file.read_exact_at(&mut bytemuck::cast_slice_mut(&mut numbers)[..length], 0)?;
        Ok(Self::Read(numbers, length))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(numbers, length) => &bytemuck::cast_slice(numbers)[..*length],
        }
    }
}

/// Single-precision numbers, read-only; a clone shares them.
#[derive(Clone)]
pub struct Values {
    source: Source,
    /// Numbers of the source.
    range: Range<usize>,
}

#[derive(Clone)]
enum Source {
    Memory(Arc<Vec<f32>>),
    /// The bytes of the file from this one on; the numbers lie at multiples of their size, in the order of this machine.
    File(Arc<Bytes>, usize),
}

impl Values {
    /// A file of nothing but numbers.
    fn of_numbers(file: Bytes) -> Self {
        let range = 0..file.len() / SIZE;
        Self { source: Source::File(Arc::new(file), 0), range }
    }

    /// The numbers in these bytes of a mapped file; `None` if they do not lie at a multiple of their size, or outside.
    pub(super) fn of_file(file: &Arc<Bytes>, bytes: Range<usize>) -> Option<Self> {
        let numbers: &[f32] = bytemuck::try_cast_slice(file.get(bytes.clone())?).ok()?;
        Some(Self { range: 0..numbers.len(), source: Source::File(file.clone(), bytes.start) })
    }

    /// Whether they lie in a file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.source, Source::File(..))
    }

    /// Says that the numbers in these ranges will be read in a moment: those of a file are fetched at once, and not one by one.
    pub fn will_need(&self, ranges: impl Iterator<Item = Range<usize>>) {
        let Source::File(file, start) = &self.source else { return };
        let Bytes::Mapped(file) = &**file else { return };
        for range in ranges {
            let at = start + (self.range.start + range.start) * SIZE;
            // A hint: what it does not fetch comes when it is read.
            let _ = file.advise_range(Advice::WillNeed, at, range.len() * SIZE);
        }
    }

    /// A part of them, which shares what it is a part of.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let start = (self.range.start + range.start).min(self.range.end);
        let end = (self.range.start + range.end).clamp(start, self.range.end);
        Self { source: self.source.clone(), range: start..end }
    }

    /// All rows of this width in another order, each once. Those of a file are dealt to several files, each the rows of a part of the new
    /// order that fits into memory, and put in order there: the disk reads and writes in sequence.
    pub fn permuted(&self, width: usize, order: Vec<u32>, scratch: &Scratch) -> Result<Self, DataError> {
        let rows: &[f32] = self;
        if !self.is_mapped() {
            return Ok(order.into_iter().flat_map(|from| &rows[from as usize * width..][..width]).copied().collect());
        }
        let mut places = vec![0_u32; order.len()];
        for (to, from) in (0..).zip(order) {
            places[from as usize] = to;
        }
        let at_once = (scratch.in_memory / (width * SIZE)).max(places.len().div_ceil(MAX_FILES)).max(1);
        let io = || DataError::io(&scratch.folder);
        let buffer = (scratch.in_memory / MAX_FILES).clamp(1 << 12, 1 << 20);
        let file = |_| Ok(BufWriter::with_capacity(buffer, tempfile::tempfile_in(&scratch.folder).map_err(io())?));
        let mut files = (0..places.len().div_ceil(at_once)).map(file).collect::<Result<Vec<_>, _>>()?;
        for (row, &to) in rows.chunks_exact(width).zip(&places) {
            let file = &mut files[to as usize / at_once];
            file.write_all(&to.to_le_bytes()).and_then(|()| write(file, row)).map_err(io())?;
        }
        drop(places);
        let mut collector = scratch.collector();
        let mut piece = Vec::new();
        for (first, file) in (0..).step_by(at_once).zip(files) {
            let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| Bytes::of(&file));
            let file = file.map_err(io())?;
            let record = (1 + width) * SIZE;
            piece.clear();
            piece.resize(file.len() / record * width, 0.0);
            for (to, row) in file.chunks_exact(record).filter_map(|record| record.split_first_chunk()) {
                let to = u32::from_le_bytes(*to) as usize - first;
                piece[to * width..][..width].copy_from_slice(bytemuck::try_cast_slice(row).unwrap_or_default());
            }
            collector.extend(&piece)?;
        }
        collector.finish()
    }

    /// The rows of this width in this order. Rows of a file are read from its start to its end, as often as the memory asks for.
    pub fn gather(&self, width: usize, order: &[u32], scratch: &Scratch) -> Result<Self, DataError> {
        let mut collector = scratch.collector();
        let rows: &[f32] = self;
        let row = |from: u32| &rows[from as usize * width..(from as usize + 1) * width];
        // Beside the rows: where each comes from and goes to.
        let at_once = (scratch.in_memory / (width * SIZE + 8)).max(1);
        let mut piece = Vec::new();
        for order in order.chunks(at_once.min(order.len().max(1))) {
            piece.clear();
            piece.resize(order.len() * width, 0.0);
            if self.is_mapped() {
                let mut moves: Vec<(u32, u32)> = order.iter().copied().zip(0..).collect();
                moves.sort_unstable();
                for (from, to) in moves {
                    piece[to as usize * width..(to as usize + 1) * width].copy_from_slice(row(from));
                }
            } else {
                for (slot, &from) in piece.chunks_exact_mut(width.max(1)).zip(order) {
                    slot.copy_from_slice(row(from));
                }
            }
            collector.extend(&piece)?;
        }
        collector.finish()
    }

    /// The bytes of the numbers, little-endian.
    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

// Files hold little-endian numbers, and mapped ones are read as they are.
const _: () = assert!(cfg!(target_endian = "little"), "mapped events need a little-endian machine");

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let all = match &self.source {
            Source::Memory(values) => values.as_slice(),
            // Alignment was looked at when it was made.
            Source::File(file, start) => {
                let bytes = &file[*start..*start + self.range.end * SIZE];
                bytemuck::try_cast_slice(bytes).unwrap_or_default()
            }
        };
        &all[self.range.clone()]
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self { range: 0..values.len(), source: Source::Memory(Arc::new(values)) }
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        values.into_iter().collect::<Vec<_>>().into()
    }
}

impl Default for Values {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values{}", self.len(), if self.is_mapped() { " in a file" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_collection_is_the_same_in_memory_and_in_a_file(parts in vec(vec(any::<f32>(), 0..50), 0..10), limit in 0u64..800) {
            let folder = tempfile::tempdir().unwrap();
            let whole: Vec<u32> = parts.concat().iter().map(|x| x.to_bits()).collect();
            for scratch in [Scratch::memory(), Scratch::new(folder.path(), limit)] {
                let mut collector = scratch.collector();
                for part in &parts {
                    collector.extend(part).unwrap();
                }
                let values = collector.finish().unwrap();
                prop_assert_eq!(values.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), whole.clone());
                prop_assert_eq!(values.is_mapped(), !scratch.holds(4 * whole.len() as u64));
            }
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }

        #[test]
        fn rows_are_gathered_in_the_same_order_from_memory_and_from_a_file(
            (rows, order) in (1usize..60).prop_flat_map(|rows| (Just(rows), vec(0..rows as u32, 0..100))), limit in 0u64..600,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let scratch = Scratch::new(folder.path(), limit);
            let numbers: Vec<f32> = (0..3 * rows).map(|i| i as f32).collect();
            let expected: Vec<f32> = order.iter().flat_map(|&i| [0, 1, 2].map(|k| (3 * i + k) as f32)).collect();
            let mut collector = scratch.collector();
            collector.extend(&numbers).unwrap();
            for values in [numbers.into(), collector.finish().unwrap()] {
                prop_assert_eq!(&*values.gather(3, &order, &scratch).unwrap(), &*expected);
            }
        }
    }

    #[test]
    fn rows_are_permuted_the_same_in_memory_and_in_files() {
        let (width, count) = (3, 10_000_u32);
        let numbers: Vec<f32> = (0..count * 3).map(|i| i as f32).collect();
        // A permutation, for 7919 and 10,000 have no common factor.
        let order: Vec<u32> = (0..count).map(|i| i * 7919 % count).collect();
        let expected: Vec<f32> = order.iter().flat_map(|i| [0, 1, 2].map(|k| (3 * i + k) as f32)).collect();
        let folder = tempfile::tempdir().unwrap();
        for limit in [0, 5000, 50_000] {
            let scratch = Scratch::new(folder.path(), limit);
            let mut collector = scratch.collector();
            collector.extend(&numbers).unwrap();
            for values in [collector.finish().unwrap(), numbers.clone().into()] {
                let permuted = values.permuted(width, order.clone(), &scratch).unwrap();
                assert!(*permuted == *expected);
                assert_eq!(&*permuted.slice(3..9).slice(3..6), &expected[6..9]);
            }
        }
    }

    #[test]
    fn numbers_in_the_middle_of_a_file_are_found_if_they_are_aligned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values");
        std::fs::write(&path, bytemuck::cast_slice::<f32, u8>(&[1.0, 2.0, 3.0, 4.0])).unwrap();
        let file = File::open(&path).unwrap();
        for file in [Bytes::of(&file), Bytes::read(&file)] {
            let file = Arc::new(file.unwrap());
            let values = Values::of_file(&file, 4..12).unwrap();
            values.will_need(std::iter::once(0..2));
            assert_eq!(*values, [2.0, 3.0]);
            assert_eq!(Values::of_file(&file, 2..10), None);
            assert_eq!(Values::of_file(&file, 8..20), None);
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_it() {
        let scratch = Scratch::new(Path::new("no/such/folder"), 0);
        let error = scratch.collector().extend(&[1.0]).unwrap_err().to_string();
        assert!(error.contains("no/such/folder"), "{error}");
    }
}
