"""Prints what is in version 1 of the trial's dataset, read from the S3 server with DuckDB."""

import duckdb
import pyarrow.dataset
import pyarrow.fs

store = pyarrow.fs.S3FileSystem(
    endpoint_override="127.0.0.1:8333", scheme="http", region="us-east-1"
)
pages = pyarrow.dataset.dataset("fleet/first/data/v000001/pages", filesystem=store)
print(
    duckdb.sql(
        "SELECT language, count(*) AS pages, round(avg(confidence), 3) AS confidence"
        " FROM pages GROUP BY ALL ORDER BY pages DESC"
    )
)
