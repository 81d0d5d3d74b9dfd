// Command gendoc writes the reference page of the configuration to the file that its
// argument names. It runs under go generate.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/kalda-io/kalda/internal/config"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gendoc:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the file to write, not %d", len(args))
	}
	var b bytes.Buffer
	if err := config.Doc(&b); err != nil {
		return err
	}
	return os.WriteFile(args[0], b.Bytes(), 0o644)
}
