package main

import (
	"bytes"
	"os"
	"testing"
)

func TestCheckedInFileIsCurrent(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../" + output)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what kmsg says: run go generate ./internal/wire", output)
	}
}
