//go:build !linux

package service

import "os"

func deviceAndInode(*os.File) string { return "" }
