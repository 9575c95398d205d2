//! Parquet: flat numeric columns of any width, without nulls.

use std::{fs::File, path::Path, sync::Arc};

use parquet::{
    basic::{ConvertedType, LogicalType, Repetition, Type},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    errors::ParquetError,
    file::reader::{FileReader, RowGroupReader, SerializedFileReader},
    schema::types::{ColumnDescriptor, SchemaDescriptor},
};

use super::{DataError, Sink, at_once, named, open, resolve};

pub(super) fn columns(path: &Path) -> Result<Vec<String>, DataError> {
    let (_, schema) = reader(path)?;
    Ok(schema.columns().iter().filter(|column| is_numeric(column)).map(|column| column.path().string()).collect())
}

pub(super) fn stream(path: &Path, wanted: Option<&[String]>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let (reader, schema) = reader(path)?;
    let known: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let places = match wanted {
        Some(wanted) => resolve(path, wanted, &known)?,
        None => (0..known.len()).filter(|&place| is_numeric(&schema.column(place))).collect(),
    };
    if places.is_empty() {
        return Err(DataError::format(path, "no column holds numbers"));
    }
    let names: Vec<String> = places.iter().map(|&place| known[place].clone()).collect();
    let columns = places.iter().map(|&place| Column::of(path, place, &schema.column(place)));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let (mut events, at_once) = (0, at_once(columns.len()));
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(explain(path))?;
        let mut pages = columns.iter().map(|column| column.open(&*group)).collect::<Result<Vec<_>, _>>()?;
        loop {
            let read = columns.iter().zip(&mut pages).map(|(column, pages)| column.read(pages, events, at_once));
            let read = read.collect::<Result<Vec<_>, _>>()?;
            let count = read.first().map_or(0, Vec::len);
            if let Some(other) = read.iter().find(|values| values.len() != count) {
                let message = format!(
                    "from row {} on a column has {} values where another has {count}; write it again",
                    events + 1,
                    other.len()
                );
                return Err(DataError::format(path, message));
            }
            if count == 0 {
                break;
            }
            events += count;
            if sink(named(path, names.clone(), read)?)?.is_break() {
                return Ok(());
            }
        }
    }
    let rows = reader.metadata().file_metadata().num_rows();
    if i64::try_from(events) != Ok(rows) {
        let message = format!("the columns have {events} values where the file promises {rows} rows; write it again");
        return Err(DataError::format(path, message));
    }
    Ok(())
}

fn reader(path: &Path) -> Result<(SerializedFileReader<File>, Arc<SchemaDescriptor>), DataError> {
    let (file, _) = open(path)?;
    let reader = SerializedFileReader::new(file).map_err(explain(path))?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    Ok((reader, schema))
}

/// Whether a column is flat and its numbers mean themselves: no dates, no decimals.
fn is_numeric(column: &ColumnDescriptor) -> bool {
    let physical = matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE | Type::INT32 | Type::INT64);
    let logical = matches!(column.logical_type_ref(), None | Some(LogicalType::Integer { .. }));
    let converted = !matches!(
        column.converted_type(),
        ConvertedType::DATE
            | ConvertedType::DECIMAL
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS
    );
    let flat = column.max_rep_level() == 0 && column.path().parts().len() == 1;
    physical && logical && converted && flat
}

/// A column of the file. What the metadata promise of it is never believed.
struct Column<'a> {
    path: &'a Path,
    name: String,
    place: usize,
    unsigned: bool,
    nullable: bool,
}

impl<'a> Column<'a> {
    fn of(path: &'a Path, place: usize, descriptor: &ColumnDescriptor) -> Result<Self, DataError> {
        let name = descriptor.path().string();
        if !is_numeric(descriptor) {
            let message = format!("the column `{name}` does not hold plain numbers ({})", descriptor.physical_type());
            return Err(DataError::format(path, message));
        }
        let unsigned = matches!(descriptor.converted_type(), ConvertedType::UINT_32 | ConvertedType::UINT_64)
            || matches!(descriptor.logical_type_ref(), Some(LogicalType::Integer(integer)) if !integer.is_signed);
        let nullable = descriptor.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
        Ok(Self { path, name, place, unsigned, nullable })
    }

    /// Its part in a row group.
    fn open(&self, group: &dyn RowGroupReader) -> Result<ColumnReader, DataError> {
        // The crate asserts this.
        let chunk = group.metadata().column(self.place);
        let first_page = chunk.dictionary_page_offset().unwrap_or(0).min(chunk.data_page_offset());
        if first_page.min(chunk.compressed_size()) < 0 {
            let message = format!("the column `{}` lies before the file's start; write it again", self.name);
            return Err(DataError::format(self.path, message));
        }
        group.get_column_reader(self.place).map_err(explain(self.path))
    }

    /// The next values, `most` at most and none at the end; `before` values came before them.
    fn read(&self, pages: &mut ColumnReader, before: usize, most: usize) -> Result<Vec<f32>, DataError> {
        match pages {
            ColumnReader::FloatColumnReader(pages) => self.values(pages, before, most, |x| x),
            ColumnReader::DoubleColumnReader(pages) => self.values(pages, before, most, |x| x as f32),
            ColumnReader::Int32ColumnReader(pages) if self.unsigned => {
                self.values(pages, before, most, |x| x.cast_unsigned() as f32)
            }
            ColumnReader::Int32ColumnReader(pages) => self.values(pages, before, most, |x| x as f32),
            ColumnReader::Int64ColumnReader(pages) if self.unsigned => {
                self.values(pages, before, most, |x| x.cast_unsigned() as f32)
            }
            ColumnReader::Int64ColumnReader(pages) => self.values(pages, before, most, |x| x as f32),
            _ => Err(DataError::format(self.path, format!("the column `{}` is not what the schema says", self.name))),
        }
    }

    fn values<T: DataType>(
        &self,
        pages: &mut ColumnReaderImpl<T>,
        before: usize,
        most: usize,
        convert: impl Fn(T::T) -> f32,
    ) -> Result<Vec<f32>, DataError> {
        let (mut values, mut batch, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        while values.len() < most {
            batch.clear();
            levels.clear();
            let wanted = self.nullable.then_some(&mut levels);
            let read = pages.read_records(most - values.len(), wanted, None, &mut batch);
            read.map_err(explain(self.path))?;
            if let Some(null) = levels.iter().position(|&level| level == 0) {
                let row = before + values.len() + null + 1;
                let message = format!(
                    "column `{}`, row {row}: the value is missing; remove such events from the file",
                    self.name
                );
                return Err(DataError::format(self.path, message));
            }
            if batch.is_empty() {
                break;
            }
            values.extend(batch.drain(..).map(&convert));
        }
        Ok(values)
    }
}

fn explain(path: &Path) -> impl Fn(ParquetError) -> DataError {
    move |error| DataError::format(path, format!("this is not a parquet file that can be read: {error}"))
}

#[cfg(test)]
mod tests {
    // Exact on purpose: these numbers are copied or representable.
    #![allow(clippy::float_cmp)]

    use parquet::{
        data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type},
        file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::data::Table;

    const SCHEMA: &str = "message events {
        required double a; required int32 b (INTEGER(32,false)); optional int64 c; required binary d (UTF8);
        required int32 e (DATE);
    }";

    /// Two row groups of three events; the fifth value of `c` is missing.
    fn file(path: &Path) {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::default()).unwrap();
        for group in 0..2 {
            let mut row_group = writer.next_row_group().unwrap();
            let mut column = row_group.next_column().unwrap().unwrap();
            column.typed::<DoubleType>().write_batch(&[1.5, 2.5, 3.5], None, None).unwrap();
            column.close().unwrap();
            let mut column = row_group.next_column().unwrap().unwrap();
            column.typed::<Int32Type>().write_batch(&[-1, 2, 3], None, None).unwrap();
            column.close().unwrap();
            let mut column = row_group.next_column().unwrap().unwrap();
            let (values, levels): (&[i64], &[i16]) =
                if group == 0 { (&[7, 8, 9], &[1, 1, 1]) } else { (&[7, 9], &[1, 0, 1]) };
            column.typed::<Int64Type>().write_batch(values, Some(levels), None).unwrap();
            column.close().unwrap();
            let mut column = row_group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&[(); 3].map(|()| ByteArray::from("x")), None, None).unwrap();
            column.close().unwrap();
            let mut column = row_group.next_column().unwrap().unwrap();
            column.typed::<Int32Type>().write_batch(&[1, 2, 3], None, None).unwrap();
            column.close().unwrap();
            row_group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn table(wanted: &[&str]) -> Result<Table, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.parquet");
        file(&path);
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        crate::data::read_table(&path, Some(&wanted))
    }

    #[test]
    fn numbers_of_any_width_are_read_across_row_groups() {
        let table = table(&["b", "a"]).unwrap();
        assert_eq!(table.column("a").unwrap(), [1.5, 2.5, 3.5, 1.5, 2.5, 3.5]);
        assert_eq!(table.column("b").unwrap()[0], u32::MAX as f32);
    }

    #[test]
    fn missing_values_text_and_dates_are_errors_that_say_where() {
        for (name, says) in [
            ("c", "column `c`, row 5: the value is missing"),
            ("d", "`d` does not hold plain numbers"),
            ("e", "`e` does"),
        ] {
            let message = table(&[name]).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }

    #[test]
    fn the_embedded_events_are_thirty_thousand() {
        for name in ["train", "test"] {
            let path = format!("{}/examples/dijet/{name}.parquet", env!("CARGO_MANIFEST_DIR"));
            let table = crate::data::read_table(path.as_ref(), None).unwrap();
            assert_eq!(
                (table.len(), table.names()),
                (30_000, crate::data::dijet::FEATURES.map(str::to_owned).as_slice())
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn a_damaged_file_gives_a_table_or_an_error_and_never_a_panic(at: prop::sample::Index, byte: u8, cut: bool) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("events.parquet");
            file(&path);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            std::fs::write(&path, bytes).unwrap();
            let _ = crate::data::read::columns(&path, None);
            if let Ok(table) = crate::data::read_table(&path, Some(&["a".to_owned(), "b".to_owned()])) {
                prop_assert_eq!(table.len(), 6);
            }
        }
    }
}
