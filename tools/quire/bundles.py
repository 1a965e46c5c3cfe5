"""What programs need beside their shared libraries, as data.

A program whose name (of the file itself, links followed, or as it was called) matches `names` gets:

  programs   further programs, with their libraries; those not installed are passed over
  trees      files and folders (glob patterns), minus what `without` matches (path components or endings);
             shared objects among them get their libraries packed as well
  words      True: words of its arguments and of a script among them that name programs are packed too

In patterns {prefix} is the folder above the program's bin/ and {name} the name of the program's file.
"""

COREUTILS = """[ arch b2sum base32 base64 basename basenc cat chgrp chmod chown cksum comm cp csplit cut
date dd df dir dircolors dirname du echo env expand expr factor false fmt fold groups head hostid id install join link ln
logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste pathchk pinky pr printenv
printf ptx pwd readlink realpath rm rmdir seq sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf
sleep sort split stat stdbuf stty sum sync tac tail tee test timeout touch tr true truncate tsort tty uname
unexpand uniq unlink users vdir wc who whoami yes""".split()

SHELL_TOOLS = COREUTILS + ["grep", "sed", "awk", "find", "xargs"]

BUNDLES = [
    {
        "names": r"(ba|da|z|k|mk)?sh",
        "programs": SHELL_TOOLS,
        "words": True,
    },
    {
        "names": r"busybox|env|timeout|nice|nohup|xargs|time|make|setsid|stdbuf|strace",
        "words": True,
    },
    {
        "names": r"make",
        "programs": ["sh"] + SHELL_TOOLS,
    },
    {
        "names": r"python3(\.\d+)?",
        "trees": ["{prefix}/lib/{name}", "/etc/{name}/sitecustomize.py"],
        "without": ["test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data",
                    "site-packages", "dist-packages", "config-*", "*.opt-1.pyc", "*.opt-2.pyc", "*.a"],
    },
    {
        "names": r"perl(5.*)?",
        "trees": ["/usr/lib/x86_64-linux-gnu/perl-base", "/usr/lib/x86_64-linux-gnu/perl/5*", "/usr/share/perl/5*"],
        "without": ["CPAN*", "unicore/lib/*", "*.pod", "*.ph"],
    },
    {
        "names": r"(x86_64-linux-gnu-)?(gcc|cc|c99|c89|cpp)(-\d+)?",
        "programs": ["as", "ld", "ld.bfd", "gcc", "cc"],
        "trees": [
            "/usr/lib/gcc/x86_64-linux-gnu/*/" + name for name in (
                "cc1", "collect2", "lto-wrapper", "liblto_plugin.so", "crtbegin*.o", "crtend*.o", "libgcc.a",
                "libgcc_eh.a", "libgcc_s.so", "include")
        ] + [
            "/usr/lib/x86_64-linux-gnu/" + name for name in (
                "crt1.o", "crti.o", "crtn.o", "Scrt1.o", "rcrt1.o", "libc.so", "libc.a", "libc_nonshared.a",
                "libm.so", "libm.a", "libm-*.a", "libmvec.a", "libmvec.so*", "libpthread.a", "libdl.a", "librt.a",
                "libgcc_s.so*")
        ] + ["/usr/include/*.h"] + [
            "/usr/include/" + name for name in (
                "asm-generic", "linux", "arpa", "net", "netinet", "sys", "x86_64-linux-gnu/asm", "x86_64-linux-gnu/bits",
                "x86_64-linux-gnu/gnu", "x86_64-linux-gnu/sys")
        ],
        "without": ["plugin", "c++"],
    },
    {
        "names": r"musl-gcc",
        "programs": ["gcc", "sh"],
        "trees": ["/usr/lib/x86_64-linux-musl", "/usr/include/x86_64-linux-musl"],
    },
    {
        "names": r"vim(\..*)?|less|top|htop|nano|clear|tput",
        "trees": ["/usr/share/terminfo/*/linux", "/usr/share/terminfo/x/xterm*", "/lib/terminfo/l/linux",
                  "/lib/terminfo/x/xterm*", "/lib/terminfo/v/vt100"],
    },
]

# Small files that programs of any kind look for.
FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "/etc/hosts": "127.0.0.1 localhost quire\n",
    "/etc/hostname": "quire\n",
}
MERGED = ["/bin", "/sbin", "/lib", "/lib64"]
FOLDERS = {"/dev": 0o755, "/proc": 0o555, "/sys": 0o555, "/root": 0o700, "/tmp": 0o1777, "/run": 0o755,
           "/var/tmp": 0o1777, "/var/run": 0o755}
