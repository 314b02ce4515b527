"""Files of a folder, read in ranges, wherever the folder is: a local disk, an object store, a web server."""
