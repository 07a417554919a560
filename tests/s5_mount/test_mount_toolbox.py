"""Programs side by side on a mount and on a disk: what they say, and all they leave, is the same.

What is left is compared on the mount, and on another one that has nothing but the bucket.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.s5_mount.mounting import run
from tests.s5_mount.pairs import Pair

LARGE = "large"  # more than 8 MiB: it is sent in parts
DATE = "2003-02-03 04:05:06.123456789"
GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_NAME": "Test" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "test@example.org" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_DATE": "2005-04-07T22:13:13" for who in ("AUTHOR", "COMMITTER")},
}
WHEEL = {
    "small/__init__.py": "from small.deep.inner import ANSWER as ANSWER\n",
    "small/deep/__init__.py": "",
    "small/deep/inner.py": "ANSWER = 42\n",
    "small-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n",
    "small-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "small-1.0.dist-info/RECORD": "",
}
PROGRAM = {
    "one.c": "int one(void) { return 1; }\n",
    "two.c": "int two(void) { return 2; }\n",
    "main.c": "#include <stdio.h>\nint one(void), two(void);\n"
    'int main(void) { printf("%d\\n", one() + two()); return 0; }\n',
    "Makefile": "program: main.o lib.a\n\t$(CC) -o $@ $^\n"
    "lib.a: one.o two.o\n\trm -f $@\n\tar rcD $@ $^\n"
    "install: program\n\tinstall -D -m 711 program $(DESTDIR)/bin/program\n",
}

# Run by `bash -e` in an empty directory; what they print is compared, too. $SOURCE is a tree on
# a disk, $OUTSIDE a name on that disk that is free.
SCRIPTS = {
    "rsync": "rsync -aAX $SOURCE/ copy; rsync -aAXi $SOURCE/ copy; rsync -aAXi copy/ back",
    "rsync with options": """
        rsync -aS --inplace $SOURCE/ copy; echo more >> copy/a/main.c; rsync -aci $SOURCE/ copy
        rsync -ab --suffix=.old --partial-dir=.part --delay-updates $SOURCE/a/ copy
        rsync -ai --delete $SOURCE/a/ copy; rsync -a --append-verify $SOURCE/a/ copy""",
    "cp": """
        cp -a $SOURCE copy; cp -a copy again; cp -au copy/. again; cp -rL copy/a/dirlink real
        cp -a --sparse=always copy/a/sparse .; cp --attributes-only -p copy/a/main.c empty
        cp -b copy/a/main.c empty; cp -P copy/a/link .""",
    "tar": """
        tar --xattrs -C $SOURCE -cf a.tar .; mkdir one two
        tar --xattrs -C one -xpf a.tar; tar --xattrs -C one -cf - . | tar --xattrs -C two -xpf -
        tar --diff -C two -f a.tar; tar -C one -czSf a.tgz .; tar -tzf a.tgz | sort
        touch one/new; tar -C one -uf a.tar ./new; tar --delete -f a.tar ./a/main.c
        tar -tf a.tar | sort; tar -C two --keep-newer-files -xf a.tgz; rm a.tgz a.tar""",
    "mv": """
        cp -a $SOURCE tree; mkdir into other; mv tree/a into; mv -n into/a/main.c tree/file
        mv into other/into; mv tree/open other; mv -T other moved
        mv -b tree/file moved/into/a/one.c
        mv moved/into/a/data big; ln -s big link; mv link renamed; mv "tree/empty dir" .
        mv renamed "empty dir/"; mv big renamed
        mv moved moved/into 2> /dev/null || echo refused""",
    "mv from and to a disk": """
        cp -a $SOURCE "$OUTSIDE"; cd "$OUTSIDE"; mv a open "$OLDPWD"; cd "$OLDPWD"
        mv a "$OUTSIDE"; mv "$OUTSIDE/a" back; (cd "$OUTSIDE"; find . | sort)""",
    "zip": """
        cp -a $SOURCE/a a; rm a/pipe; zip -qry all.zip a; zip -q all.zip -d a/empty
        echo more >> a/main.c; zip -qf all.zip; unzip -qt all.zip > /dev/null
        unzip -Z1 all.zip | sort; unzip -q all.zip -d out; unzip -qo all.zip -d out; rm all.zip""",
    "compressors": """
        cp $LARGE large; gzip -k large; gzip -t large.gz; split -b 2500000 large part.
        cat part.* | cmp - large; gzip part.aa; bzip2 -1 part.ab; xz -0 part.ac; rm large.gz
        gunzip part.aa.gz; bunzip2 part.ab.bz2; unxz part.ac.xz; cat part.* | cmp - large""",
    "sed and perl": """
        cp -p $SOURCE/a/*.c .; sed -i s/int/long/ *.c; sed -i.bak s/main/start/ *.c; grep -c long *
        perl -pi -e 's/one/eins/' *.c; perl -pi.old -e 's/two/zwei/' *.c; cat *.c""",
    "patch": """
        cp $SOURCE/a/*.c .; cp main.c new.c; echo '/* end */' >> new.c
        diff -u --label a --label b main.c new.c > change || true; patch -b main.c change
        cmp main.c new.c""",
    "vim": """
        cp -p $SOURCE/a/main.c .; cp main.c other.c
        vim() { command vim -u NONE -N -i NONE -es "$@"; }
        vim -c 'set swapfile' -c '%s/int/long/' -c wq main.c
        vim -c 'set backup backupcopy=no' -c '%s/int/char/' -c wq other.c
        vim -c 'set backupcopy=yes writebackup' -c 'normal Goend' -c 'w! third.c' -c q! other.c
        vim -c 'set undofile' -c 'normal Goend' -c wq third.c; ls -A; rm .third.c.un~""",
    "make": """
        cp $SOURCE/a/*.c $SOURCE/a/Makefile .; make -s -j2; ./program; make -q
        touch -d '-1 minute' one.c; make -q; touch two.c; make -q || make; ./program; ar t lib.a
        make -s install DESTDIR=out; ls -R; rm -r out *.o lib.a program""",
    "find": f"""
        cp -a $SOURCE/. .; touch -d 2010-01-01 reference; touch a/new
        find . -newer reference | sort
        find . ! -newer reference -type f | sort
        find . -newermt '{DATE[:-1]}8' ! -newermt '{DATE}' | sort
        find . -size +1M; find . -perm -4000; find . -empty | sort; find . -type l | sort
        find . -type p
        find . -xtype l; find . -links 1 -type f | sort
        find . -name '*.c' -exec sha1sum {{}} + | sort
        find a -depth -name '*.c' -delete; find . -type d -empty -delete; find . | sort""",
    "du and df": """
        cp $LARGE .; du -b large; truncate -s 5M large; du -b --apparent-size large; du -k large
        df -k . > /dev/null; df -i . > /dev/null
        [ $(df -k --output=avail . | tail -n1) -gt 1000 ]""",
    "dd": """
        dd() { command dd status=none "$@"; }; dd if=$LARGE of=x bs=70001
        dd if=x of=x conv=notrunc seek=3 bs=1000 count=5; dd if=x of=y bs=64k skip=7 conv=fdatasync
        dd if=/dev/zero of=x bs=4096 seek=9 count=2 conv=notrunc,fsync
        dd if=x of=y bs=1 count=3 oflag=append conv=notrunc; dd if=x of=sparse conv=sparse bs=4096
        truncate -s +17 y; truncate -s 5 x; truncate -s 1000 x
        dd if=y of=x bs=10 seek=50 count=1""",
    "shell": """
        echo one > f; echo two >> f; cat f f > g; tee h < g | tail -n1; exec 3<> f; echo XX >&3
        cat <&3; exec 3>&-; set -C; (echo no > f) 2> /dev/null || echo refused; set +C; sort -ro g g
        while read -r line; do echo "$line"; done < g; install -D -m 640 g deep/er/i; mkdir -m 711 d
        ln -s f s; ln -sfn g s; cat s; cp --remove-destination f s; chmod -R u=rwX,go= deep
        touch $(mktemp -p d); rm -r d; wc -c [a-z]; [ f -ef f ] && echo same
        rmdir -p deep/er 2> /dev/null || echo full; exec 4> gone; rm gone; echo x >&4; exec 4>&-
        ls""",
    "git": """
        git init -q -b main origin; cd origin; cp $SOURCE/a/*.c .; git add .; git commit -qm one
        cd ..
        git clone -q --no-hardlinks origin clone; cd clone; echo '//' >> one.c; git commit -qam two
        git worktree add -q ../tree -b side; echo '/**/' >> ../tree/two.c
        git -C ../tree commit -qam three
        git merge -q side; git tag v1; git gc -q --prune=now; git repack -adq; git fsck --strict
        git mv one.c first.c; git stash -q; git stash pop -q; git status --short
        git reset -q --hard
        git branch -m side aside; git push -q origin main:pushed; git worktree remove ../tree
        touch x; git clean -fdqx; git log --format='%s %H'; git ls-files -s; git pack-refs --all
        git bundle create -q b HEAD; git bundle verify -q b; git archive HEAD | sha1sum
        git -C ../origin log -1 --format=%H pushed; cd ..; rm -rf clone/.git origin/.git clone/b""",
    "pip": """
        $PYTHON -m pip -q --isolated --disable-pip-version-check install \\
            --root-user-action=ignore --no-index --no-compile --target packages $SOURCE/wheel/*.whl
        export PYTHONPATH=packages; $PYTHON -B -c 'import small; print(small.ANSWER)'""",
    "sqlite3": """
        for mode in delete truncate persist memory; do sqlite3 $mode.db "pragma journal_mode=$mode;
            create table t(a, b unique); begin; with recursive n(i) as (select 1 union all select
            i + 1 from n where i < 300) insert into t select i, i * 2 from n; commit;
            delete from t where a % 3 = 0; vacuum; pragma integrity_check; select count(*), sum(b)
            from t"; done; sqlite3 delete.db .dump > dump; sqlite3 again.db < dump; rm -f *-journal
        sqlite3 delete.db '.backup copy.db'; sqlite3 copy.db 'select sum(a) from t'; ls""",
}


# What an object store has no place for, programs name; and they copy all else.
REFUSED = {
    "rsync -aHA": ("rsync -aHA $TREE/ copy", 23, ["link", "set_acl"]),
    "cp -a": ("cp -a $TREE copy", 1, ["cannot create hard link", "preserving permissions"]),
    "tar --acls": (
        "tar --acls -C $TREE -cf a.tar .; mkdir copy; tar --acls -C copy -xf a.tar",
        2,
        ["Cannot hard link", "Cannot set POSIX ACLs"],
    ),
}
LINKS = ("file", "twin")  # one of these is left out
# And these copy everything, each name a file of its own.
COMPLETE = {
    "rsync": "rsync -a $TREE/ copy",
    "cp": "cp -r --preserve=timestamps $TREE copy",
    "tar": "tar --hard-dereference -C $TREE -cf a.tar .; mkdir copy; tar -C copy -xf a.tar",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something of everything a mount keeps, of long ago."""
    top = tmp_path_factory.mktemp("source") / "tree"
    for name in ("a/b", "empty dir", "open", "wheel"):
        (top / name).mkdir(parents=True)
    for name, text in PROGRAM.items():
        (top / "a" / name).write_text(text)
    (top / "a/data").write_bytes(os.urandom(1_200_000))
    (top.parent / LARGE).write_bytes(os.urandom(90_000) * 100)
    (top / "a/b/private ünïcode").write_bytes(b"x")
    (top / "a/b/private ünïcode").chmod(0o600)
    (top / "a/empty").touch(0o4755)
    (top / "a/empty").chmod(0o4755)
    (top / "a/sparse").touch()
    os.truncate(top / "a/sparse", 100_000)
    for name, target in {"link": "main.c", "dangling": "none", "dirlink": "b"}.items():
        (top / "a" / name).symlink_to(target)
    os.mkfifo(top / "a/pipe", 0o640)
    (top / "open").chmod(0o1777)
    (top / "a/b").chmod(0o2750)
    os.setxattr(top / "a/main.c", "user.colour", b"blue\0\xff")
    os.setxattr(top / "a/b", "user.of a directory", b"")
    with zipfile.ZipFile(top / "wheel/small-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in WHEEL.items():
            wheel.writestr(name, text)
    if not os.geteuid():
        os.chown(top / "a/b/private ünïcode", 65531, 65532)
        os.chown(top / "a/dangling", 65531, 65532, follow_symlinks=False)
    run("find", top, "-exec", "touch", "-h", "-d", DATE, "{}", "+")
    return top


def said(script: str, folder: Path, source: Path) -> str:
    """What a script prints in a new directory; it must end well."""
    folder.mkdir()
    outside = source.parent / f"from {folder.parent.name}"
    environment = {"SOURCE": str(source), "OUTSIDE": str(outside), "TZ": "UTC", **GIT}
    environment |= {"LARGE": str(source.parent / LARGE), "PYTHON": sys.executable}
    options = ["-e", "-o", "pipefail", "-c", script]
    return run("bash", *options, cwd=folder, environment=environment).replace(str(folder), "HERE")


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_on_a_disk(pair: Pair, source: Path, name: str, tmp_path: Path) -> None:
    disk, mounted = tmp_path / name, pair.mount.path / name
    assert said(SCRIPTS[name], mounted, source) == said(SCRIPTS[name], disk, source)
    pair.compare(mounted, disk)


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A tree with one file of two names, and one with an access control list."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("file", "listed", "other"):
        (tree / name).write_text(name)
    (tree / "twin").hardlink_to(tree / "file")
    entries = [(1, 6, -1), (2, 4, 65531), (4, 4, -1), (16, 4, -1), (32, 4, -1)]  # acl(5)
    acl = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(tree / "listed", "system.posix_acl_access", struct.pack("<I", 2) + acl)
    return tree


@pytest.mark.parametrize("program", REFUSED)
def test_what_cannot_be_kept_is_named(pair: Pair, linked: Path, program: str) -> None:
    command, code, named = REFUSED[program]
    folder = pair.mount.path / program
    folder.mkdir()
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"TREE": str(linked), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [word for word in named if word not in done.stderr]) == (code, [])
    assert "Operation not permitted" in done.stderr
    assert "Operation not supported" in done.stderr
    found = {path.name: path.read_text() for path in pair.elsewhere(folder / "copy").iterdir()}
    texts = {"file": "file", "twin": "file", "listed": "listed", "other": "other"}
    assert found in [{name: texts[name] for name in texts if name != one} for one in LINKS]


@pytest.mark.parametrize("program", COMPLETE)
def test_what_copies_names_of_one_file(pair: Pair, linked: Path, program: str) -> None:
    folder = pair.mount.path / f"complete {program}"
    folder.mkdir()
    run("bash", "-ec", COMPLETE[program], cwd=folder, environment={"TREE": str(linked)})
    assert run("diff", "-r", linked, pair.elsewhere(folder / "copy")) == ""
