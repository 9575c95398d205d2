//! Writing tables: parquet (zstd), CSV and npy, by the file's extension. The same table gives the same bytes.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use npyz::WriterBuilder;
use parquet::{
    basic::{Compression, Repetition, Type as Physical, ZstdLevel},
    data_type::FloatType,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};

use super::{DataError, Table, read::Format};

/// Events in a parquet row group.
const ROW_GROUP: usize = 1 << 20;

/// Writes a table as `.parquet`, `.csv` (a header line; numbers in their shortest exact form) or `.npy` (float32 of shape
/// `[events, columns]`; that format holds no names).
pub fn write_table(path: &Path, table: &Table) -> Result<(), DataError> {
    let mut writer = TableWriter::create(path, table.names(), table.len())?;
    writer.append(table)?;
    writer.finish()
}

/// Writes a table part by part, as [`write_table`] does.
pub struct TableWriter<W: Write + Send> {
    path: PathBuf,
    format: Writer<W>,
}

enum Writer<W: Write + Send> {
    Parquet(Box<SerializedFileWriter<BufWriter<W>>>),
    Csv(Box<csv::Writer<BufWriter<W>>>),
    Npy(npyz::NpyWriter<f32, BufWriter<W>>),
}

impl TableWriter<File> {
    /// Begins a file for so many events in all, whose format is told by its extension.
    pub fn create(path: &Path, names: &[String], events: usize) -> Result<Self, DataError> {
        Format::of(path)?;
        Self::over(File::create(path).map_err(DataError::io(path))?, path, names, events)
    }
}

impl<W: Write + Send> TableWriter<W> {
    /// Begins a table for so many events in all, in the format that the extension of `path` tells. No format needs to seek.
    pub fn over(out: W, path: &Path, names: &[String], events: usize) -> Result<Self, DataError> {
        let format = Format::of(path)?;
        let file = BufWriter::new(out);
        let format = match format {
            Format::Parquet => parquet(file, names)
                .map(|writer| Writer::Parquet(Box::new(writer)))
                .map_err(|error| DataError::format(path, error.to_string()))?,
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(names).map_err(|error| DataError::io(path)(error.into()))?;
                Writer::Csv(Box::new(writer))
            }
            Format::Npy => {
                let shape = [events as u64, names.len() as u64];
                let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape);
                Writer::Npy(options.writer(file).begin_nd().map_err(DataError::io(path))?)
            }
        };
        Ok(Self { path: path.to_owned(), format })
    }

    /// Appends events with the columns of the file, in its order.
    pub fn append(&mut self, table: &Table) -> Result<(), DataError> {
        let path = &self.path;
        match &mut self.format {
            Writer::Parquet(writer) => {
                append_parquet(writer, table).map_err(|error| DataError::format(path, error.to_string()))
            }
            Writer::Csv(writer) => append_csv(writer, table).map_err(|error| DataError::io(path)(error.into())),
            Writer::Npy(writer) => writer.extend(table.to_rows()).map_err(DataError::io(path)),
        }
    }

    /// Ends the file.
    pub fn finish(self) -> Result<(), DataError> {
        let Self { path, format } = self;
        match format {
            Writer::Parquet(writer) => {
                let closed = writer.into_inner().map_err(|error| DataError::format(&path, error.to_string()));
                closed?.flush().map_err(DataError::io(&path))
            }
            Writer::Csv(mut writer) => writer.flush().map_err(DataError::io(&path)),
            // Flushes what is below it, too.
            Writer::Npy(writer) => writer.finish().map_err(DataError::io(&path)),
        }
    }
}

fn parquet<W: Write + Send>(out: W, names: &[String]) -> Result<SerializedFileWriter<W>, ParquetError> {
    let column = |name: &String| {
        Type::primitive_type_builder(name, Physical::FLOAT).with_repetition(Repetition::REQUIRED).build().map(Arc::new)
    };
    let columns = names.iter().map(column).collect::<Result<_, _>>()?;
    let schema = Arc::new(Type::group_type_builder("events").with_fields(columns).build()?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .build();
    SerializedFileWriter::new(out, schema, Arc::new(properties))
}

fn append_parquet<W: Write + Send>(writer: &mut SerializedFileWriter<W>, table: &Table) -> Result<(), ParquetError> {
    for start in (0..table.len()).step_by(ROW_GROUP) {
        let end = table.len().min(start + ROW_GROUP);
        let mut group = writer.next_row_group()?;
        for values in table.columns() {
            if let Some(mut column) = group.next_column()? {
                column.typed::<FloatType>().write_batch(&values[start..end], None, None)?;
                column.close()?;
            }
        }
        group.close()?;
    }
    Ok(())
}

fn append_csv(writer: &mut csv::Writer<impl Write>, table: &Table) -> Result<(), csv::Error> {
    for event in 0..table.len() {
        for column in table.columns() {
            writer.write_field(column[event].to_string())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::data::read_table;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_written_table_reads_back_exactly(rows in vec((-1e30f32..1e30, any::<i16>()), 1..50)) {
            let names = vec!["a, quoted".to_owned(), "b".to_owned()];
            let rows: Vec<f32> = rows.into_iter().flat_map(|(a, b)| [a, f32::from(b) * f32::MIN_POSITIVE]).collect();
            let table = Table::from_rows(names.clone(), &rows).unwrap();
            let folder = tempfile::tempdir().unwrap();
            for extension in ["parquet", "csv", "npy"] {
                let path = folder.path().join(format!("events.{extension}"));
                write_table(&path, &table).unwrap();
                prop_assert_eq!(&read_table(&path, Some(&names)).unwrap(), &table, "{}", extension);
                let first = std::fs::read(&path).unwrap();
                write_table(&path, &table).unwrap();
                prop_assert_eq!(first, std::fs::read(&path).unwrap());
                // In two parts.
                let all: Vec<usize> = (0..table.len()).collect();
                let mut writer = TableWriter::create(&path, &names, table.len()).unwrap();
                let (one, other) = all.split_at(table.len() / 2);
                writer.append(&table.rows(one)).unwrap();
                writer.append(&table.rows(other)).unwrap();
                writer.finish().unwrap();
                prop_assert_eq!(&read_table(&path, Some(&names)).unwrap(), &table, "{} in parts", extension);
            }
        }
    }

    #[test]
    fn an_extension_that_cannot_be_written_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.root");
        assert!(write_table(&path, &Table::default()).is_err());
        assert!(!path.exists());
    }
}
