# The webcam page, the model server and `predict`, without TensorFlow. docs/install.md has more.
#
#     docker build --tag face-mask .
#     docker run --rm --publish 127.0.0.1:8000:8000 face-mask
#     docker run --rm --publish 127.0.0.1:5001:5001 face-mask serve --host 0.0.0.0
#     docker run --rm --volume "$PWD:/images:ro" face-mask predict /images/street.jpg

FROM python:3.13-slim AS build
WORKDIR /source
COPY requirements-run.lock ./
RUN python -m venv /opt/face-mask \
    && /opt/face-mask/bin/pip install --no-cache-dir --only-binary :all: --requirement requirements-run.lock
COPY pyproject.toml README.md LICENSE ./
COPY face_mask face_mask
RUN /opt/face-mask/bin/pip install --no-cache-dir --no-deps . \
    && /opt/face-mask/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/face-mask /opt/face-mask
ENV PATH=/opt/face-mask/bin:$PATH
RUN useradd --create-home --uid 10001 face-mask
USER 10001
WORKDIR /home/face-mask
EXPOSE 8000 5001
ENTRYPOINT ["face-mask"]
CMD ["live", "--host", "0.0.0.0", "--no-open"]
