//! Writing tables: parquet (zstd), CSV and npy, by the file's extension. The same table gives the same bytes.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
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
    let format = Format::of(path)?;
    let mut file = BufWriter::new(File::create(path).map_err(DataError::io(path))?);
    match format {
        Format::Parquet => parquet(&mut file, table).map_err(|error| DataError::format(path, error.to_string()))?,
        Format::Csv => csv(&mut file, table).map_err(|error| DataError::io(path)(error.into()))?,
        Format::Npy => npy(&mut file, table).map_err(DataError::io(path))?,
    }
    file.flush().map_err(DataError::io(path))
}

fn parquet(file: &mut (impl Write + Send), table: &Table) -> Result<(), ParquetError> {
    let column = |name: &String| {
        Type::primitive_type_builder(name, Physical::FLOAT).with_repetition(Repetition::REQUIRED).build().map(Arc::new)
    };
    let columns = table.names().iter().map(column).collect::<Result<_, _>>()?;
    let schema = Arc::new(Type::group_type_builder("events").with_fields(columns).build()?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
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
    writer.close().map(drop)
}

fn csv(file: &mut impl Write, table: &Table) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(table.names())?;
    for event in 0..table.len() {
        for column in table.columns() {
            writer.write_field(column[event].to_string())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.flush()?;
    Ok(())
}

fn npy(file: &mut impl Write, table: &Table) -> std::io::Result<()> {
    let shape = [table.len() as u64, table.names().len() as u64];
    let mut writer = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(table.to_rows())?;
    writer.finish()
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
