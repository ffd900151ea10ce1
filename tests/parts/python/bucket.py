"""What is in a bucket of an S3-compatible store: `bucket.py ENDPOINT BUCKET PREFIX`.

Prints, per table, the rows that pyarrow and Polars counted, and the paths of the objects.
"""

import json
import sys

import polars
import pyarrow.dataset
import pyarrow.fs

endpoint, bucket, prefix = sys.argv[1:]
store = pyarrow.fs.S3FileSystem(
    access_key="test", secret_key="test", region="us-east-1", endpoint_override=endpoint, scheme="http"
)
options = {
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "aws_region": "us-east-1",
    "aws_endpoint_url": f"http://{endpoint}",
    "aws_allow_http": "true",
}
selector = pyarrow.fs.FileSelector(f"{bucket}/{prefix}", recursive=True, allow_not_found=True)
files = [info.path for info in store.get_file_info(selector) if info.is_file]
paths = sorted(path.removeprefix(f"{bucket}/{prefix}/") for path in files)
tables = {}
for table in sorted({path.split("/")[0] for path in paths if path.endswith(".parquet") and path[0] != "."}):
    dataset = pyarrow.dataset.dataset(f"{bucket}/{prefix}/{table}", filesystem=store, format="parquet", partitioning="hive")
    frame = polars.scan_parquet(f"s3://{bucket}/{prefix}/{table}/**/*.parquet", storage_options=options)
    tables[table] = {"pyarrow": dataset.count_rows(), "polars": frame.collect().height}
json.dump({"paths": paths, "tables": tables}, sys.stdout)
