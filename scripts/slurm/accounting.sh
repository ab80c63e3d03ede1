# Sourced by `cluster`: MariaDB and slurmdbd, so that sacct answers.
# shellcheck shell=bash disable=SC2154

start_accounting() {
  local slurmdbd_port=$((port + nodes + 1)) mariadb_port=$((port + nodes + 2))
  start_mariadb "$mariadb_port"
  (umask 077 && slurmdbd_conf "$slurmdbd_port" "$mariadb_port" >"$folder/slurmdbd.conf")
  slurmdbd
  await 30 slurmdbd has_pid "$folder/pid/slurmdbd"
  await 30 "slurmdbd's port" listens "$(loopback)" "$slurmdbd_port"
}

start_mariadb() {
  local server=(mariadbd --no-defaults --user=root --datadir="$folder/database" --skip-log-bin --innodb-log-file-size=8M
    --innodb-buffer-pool-size=32M)
  if [ ! -e "$folder/database/ready" ]; then
    rm -rf "$folder/database"
    mkdir -p "$folder/database"
    system_tables | "${server[@]}" --bootstrap --skip-networking >"$folder/log/mariadbd.bootstrap" 2>&1
    touch "$folder/database/ready"
  fi
  # The account for slurmdbd, made at every start.
  printf '%s\n' "CREATE DATABASE IF NOT EXISTS accounting;" "CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY 'slurm';" \
    "GRANT ALL ON accounting.* TO slurm@'127.0.0.1';" >"$folder/database/account.sql"
  # In a session of its own: Ctrl-C on the terminal is not meant for it.
  setsid "${server[@]}" --init-file="$folder/database/account.sql" --bind-address=127.0.0.1 --port="$1" --skip-name-resolve \
    --socket="$folder/database.socket" --pid-file="$folder/pid/mariadbd" --innodb-flush-log-at-trx-commit=0 \
    --performance-schema=off --innodb-lock-wait-timeout=900 </dev/null >"$folder/log/mariadbd" 2>&1 &
  await 30 mariadbd has_pid "$folder/pid/mariadbd"
  await 30 "mariadbd's port" listens 127.0.0.1 "$1"
}

# What mariadb-install-db does; that program comes with the full server package only.
system_tables() {
  local scripts=/usr/share/mysql
  printf '%s\n' 'CREATE DATABASE mysql;' 'USE mysql;' 'SET @auth_root_socket=NULL, @skip_auth_anonymous=1;'
  cat "$scripts/mysql_system_tables.sql" "$scripts/mysql_system_tables_data.sql"
}

slurmdbd_conf() {
  cat <<EOT
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CommunicationParameters=NoInAddrAny
DbdHost=$(hostname -s)
DbdAddr=$(loopback)
DbdPort=$1
SlurmUser=root
PidFile=$folder/pid/slurmdbd
LogFile=$folder/log/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$2
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
EOT
}
