# The image of agent and aggregator. All that goes in comes from a wheelhouse, which has the hashes of
# requirements/wattkeeper.txt: the build reaches no network, and gives the same again.
#
#   python3 start.py wheelhouse build/wheelhouse --python 3.11
#   docker build --tag registry.example/wattkeeper:0.1.0 .
#
# BASE: any glibc system with CPython 3.11 and pip. EXTRAS: `kubernetes` makes an image for nodes alone.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG EXTRAS=aggregator,postgresql,kubernetes
ARG SOURCE_DATE_EPOCH=0
COPY build/wheelhouse /wheels
WORKDIR /wheels
# An environment without pip. Byte code is checked by nothing that changes: the files' times are all the same.
RUN sha256sum --quiet --check SHA256SUMS \
 && python3 -m venv --without-pip /opt/wattkeeper \
 && python3 -m pip --python /opt/wattkeeper/bin/python install --no-cache-dir --no-compile --no-index \
      --disable-pip-version-check --root-user-action ignore --find-links . "wattkeeper[${EXTRAS}]" \
 && PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash /opt/wattkeeper/lib \
 && install -d -m 700 -o 64646 -g 64646 /state/wattkeeper \
 && find /opt/wattkeeper /state -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="Wattkeeper" \
      org.opencontainers.image.description="Fleet-wide GPU and CPU energy accounting" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/wattkeeper /opt/wattkeeper
COPY --from=build --chown=64646:64646 /state /var/lib
ENV PATH=/opt/wattkeeper/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    WATTKEEPER_AGGREGATOR_DATA_DIR=/var/lib/wattkeeper/aggregator
# A number, for orchestrators that want to know that it is not root. The agent's pod says root itself.
USER 64646:64646
VOLUME /var/lib/wattkeeper
EXPOSE 9745 9746
# Kubernetes has probes of its own. For an agent: --health-cmd with its port.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9746/healthz', timeout=5)"]
ENTRYPOINT ["wattkeeper"]
CMD ["aggregator"]
