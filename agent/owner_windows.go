package main

import "io/fs"

// sameOwner has nothing to do: a folder decides who may read what is in it.
func sameOwner(fs.FileInfo, string) error { return nil }
