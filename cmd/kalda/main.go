// Command kalda is the whole product in one binary: the node and the tools.
package main

import (
	"os"

	"github.com/kalda-io/kalda/internal/cli"
)

func main() {
	os.Exit(cli.Main(nil))
}
