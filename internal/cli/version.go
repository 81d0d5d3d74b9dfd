package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionInfo is what `kalda version` prints.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Time     string `json:"time,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion reads what the Go linker wrote into this binary.
func buildVersion() versionInfo {
	v := versionInfo{Version: "dev", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if b.Main.Version != "" && b.Main.Version != "(devel)" {
		v.Version = b.Main.Version
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}

// line is the version in one line.
func (v versionInfo) line() string {
	return fmt.Sprintf("kalda %s (%s, %s)", v.Version, v.Go, v.Platform)
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := buildVersion()
		return printResult(a.Stdout, *out, v, func(w io.Writer, wide bool) error {
			_, err := fmt.Fprintln(w, v.line())
			if err == nil && wide && v.Revision != "" {
				_, err = fmt.Fprintf(w, "revision %s, %s\n", v.Revision, v.Time)
			}
			return err
		})
	}
	return cmd
}

func (a *app) generateCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	completion := &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of a shell.

  source <(kalda generate completion bash)
  kalda generate completion fish | source`,
		ValidArgs: shells,
		Args:      wantArgs(false, "SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.Stdout)
			case "fish":
				return root.GenFishCompletion(a.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Stdout)
			}
			return usage("no completion for shell %q; there is bash, zsh, fish and powershell", args[0])
		},
	}
	return groupCommand("generate", "Print files that other programs use", completion)
}
