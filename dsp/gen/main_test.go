package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestGenerated_UpToDate(t *testing.T) {
	for name, generate := range outputs {
		t.Run(name, func(t *testing.T) {
			want, err := formatted(name, generate())
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join("..", name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s is stale: run go generate ./dsp", name)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := write("out.go", func() []byte { return []byte("package x\nvar  a int\n") }); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("out.go")
	if err != nil || string(got) != "package x\n\nvar a int\n" {
		t.Errorf("wrote %q, %v", got, err)
	}
	if err := write("bad.go", func() []byte { return []byte("package") }); err == nil {
		t.Error("broken source was written")
	}
	if err := write("no/such/folder.go", func() []byte { return []byte("package x\n") }); err == nil {
		t.Error("a missing folder gave no error")
	}
}
