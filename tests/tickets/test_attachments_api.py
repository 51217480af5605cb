"""Attachments: what is taken, how it is kept and served, and that nothing is left behind when it goes wrong."""

import errno
import os
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from tickets.models import Attachment

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
PDF = b"%PDF-1.7\n" + bytes(20)
FIELDS = {
    "id",
    "ticket_id",
    "filename",
    "content_type",
    "size",
    "is_internal",
    "uploaded_by_id",
    "uploaded_by",
    "download_url",
    "created_at",
    "updated_at",
}


@pytest.fixture
def upload(api, ticket):
    def upload(user, content: bytes = b"Hello", name: str = "a.txt", kind: str = "text/plain", **fields):
        data = {"file": SimpleUploadedFile(name, content, kind), **fields}
        return api(user, raise_request_exception=False).post(
            f"/api/tickets/{ticket.pk}/attachments", data, format="multipart"
        )

    return upload


def stored(settings) -> list[Path]:
    return [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]


class TestUpload:
    def test_is_kept_and_told(self, upload, customer, ticket, settings):
        response = upload(customer, PNG, "fire.png", "image/png")
        assert response.status_code == 201
        body = response.json()
        assert set(body) == FIELDS
        assert (body["filename"], body["content_type"], body["size"]) == ("fire.png", "image/png", len(PNG))
        assert (body["ticket_id"], body["uploaded_by"]["name"]) == (str(ticket.pk), "Customer")
        assert body["is_internal"] is False
        [path] = stored(settings)
        assert path.read_bytes() == PNG
        assert "fire" not in str(path.relative_to(settings.MEDIA_ROOT))

    def test_larger_than_memory(self, upload, customer, settings):
        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 1000
        assert upload(customer, b"x" * 100_000).json()["size"] == 100_000
        [path] = stored(settings)
        assert path.stat().st_size == 100_000

    @pytest.mark.parametrize(
        ("content", "name", "kind", "expected"),
        [
            (PNG, "picture.html", "text/html", "image/png"),
            (PDF, "doc", "application/x-anything", "application/pdf"),
            (b"<script>alert(1)</script>", "x.html", "text/html", "text/plain; charset=utf-8"),
            ("Grüße".encode(), "a.exe", "application/x-msdownload", "text/plain; charset=utf-8"),
        ],
    )
    def test_the_type_is_what_the_bytes_are(self, upload, customer, content, name, kind, expected):
        assert upload(customer, content, name, kind).json()["content_type"] == expected

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            (b"", "empty.txt"),
            (b"MZ" + bytes(100), "a.exe"),
            (b"\x7fELF" + bytes(100), "a.txt"),
            (bytes(100), "zero.txt"),
            (b"\xff\xfe\xfa", "a.txt"),
            (b"a\x00b", "a.txt"),
        ],
    )
    def test_refused_contents(self, upload, customer, refusal, settings, content, name):
        refusal(upload(customer, content, name), 400, "validation_error", "file")
        assert stored(settings) == []
        assert not Attachment.objects.exists()

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\a.txt", "a.txt"),
            ('quo"te.txt', "quo_te.txt"),
            ("naïve 文件.txt", "naïve 文件.txt"),
            ("\u202egnp.exe", "gnp.exe"),
            ("x" * 300 + ".txt", "x" * 146 + ".txt"),
        ],
    )
    def test_names_are_made_harmless(self, upload, customer, given, kept):
        assert upload(customer, name=given).json()["filename"] == kept

    def test_a_name_may_be_given(self, upload, customer, refusal):
        assert upload(customer, filename="other.txt").json()["filename"] == "other.txt"
        refusal(upload(customer, filename="../x"), 400, "validation_error", "filename")

    def test_what_is_missing_or_too_much(self, api, ticket, customer, refusal):
        path = f"/api/tickets/{ticket.pk}/attachments"
        client = api(customer)
        refusal(client.post(path, {}, format="multipart"), 400, "validation_error", "file")
        refusal(client.post(path, {"file": "text"}, format="multipart"), 400, "validation_error", "file")
        two = [SimpleUploadedFile("a.txt", b"a"), SimpleUploadedFile("b.txt", b"b")]
        refusal(client.post(path, {"file": two}, format="multipart"), 400, "validation_error", "file")
        body = {"file": SimpleUploadedFile("a.txt", b"a"), "colour": "red"}
        refusal(client.post(path, body, format="multipart"), 400, "validation_error", "colour")
        refusal(client.post(path, {"file": "text"}), 415, "unsupported_media_type")
        assert not Attachment.objects.exists()

    def test_size_is_limited(self, upload, customer, refusal, settings):
        settings.MAX_ATTACHMENT_BYTES = 1000
        assert upload(customer, b"x" * 1000).status_code == 201
        refusal(upload(customer, b"x" * 1001), 413, "body_too_large")
        assert len(stored(settings)) == 1

    def test_number_is_limited(self, upload, customer, agent, refusal, settings, ticket):
        settings.MAX_ATTACHMENTS_PER_TICKET = 2
        assert [upload(customer).status_code for _ in range(2)] == [201, 201]
        refusal(upload(agent), 409, "too_many_attachments")
        assert len(stored(settings)) == 2
        ticket.attachments.first().delete()
        assert upload(agent).status_code == 201

    def test_a_closed_ticket_takes_none(self, upload, agent, ticket, refusal, settings):
        ticket.status = "closed"
        ticket.save()
        refusal(upload(agent), 409, "ticket_closed")
        assert stored(settings) == []


class TestTrouble:
    """Whatever fails, there is no row without its file and no file without its row."""

    def test_the_transaction_fails(self, upload, customer, settings, refusal, monkeypatch):
        def fail(self):
            raise ZeroDivisionError("a bug while recording")

        monkeypatch.setattr("notifications.recording.Recorder.__call__", fail)
        refusal(upload(customer), 500, "internal_error")
        assert stored(settings) == []
        assert not Attachment.objects.exists()

    @pytest.mark.parametrize(
        ("number", "status", "code"),
        [
            (errno.ENOSPC, 507, "insufficient_storage"),
            (errno.EDQUOT, 507, "insufficient_storage"),
            (errno.EIO, 503, "unavailable"),
            (errno.EACCES, 503, "unavailable"),
        ],
    )
    def test_the_disk_fails_half_way(self, upload, customer, settings, refusal, monkeypatch, number, status, code):
        def chunks(file, size=None):
            yield b"He"
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("django.core.files.uploadedfile.InMemoryUploadedFile.chunks", chunks)
        refusal(upload(customer), status, code)
        assert stored(settings) == []
        assert not Attachment.objects.exists()

    def test_the_disk_fails_while_the_upload_is_received(self, upload, customer, settings, refusal, monkeypatch):
        def full(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 10
        monkeypatch.setattr("django.core.files.uploadhandler.TemporaryUploadedFile", full)
        refusal(upload(customer, b"x" * 1000), 507, "insufficient_storage")
        assert not Attachment.objects.exists()


class TestDownload:
    @pytest.fixture
    def attachment(self, ticket, customer, make_attachment):
        return make_attachment(ticket, customer, b"Hello", "naïve 文件.txt")

    def test_is_to_be_saved_and_never_shown(self, api, customer, attachment):
        response = api(customer).get(f"/api/attachments/{attachment.pk}/download")
        assert response.getvalue() == b"Hello"
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert response["Content-Length"] == "5"
        assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''na%C3%AFve%20%E6%96%87")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response["Content-Security-Policy"]
        assert response["Cache-Control"] == "private, no-store"

    def test_whatever_the_client_accepts(self, api, customer, attachment):
        response = api(customer).get(f"/api/attachments/{attachment.pk}/download", headers={"Accept": "image/png"})
        assert response.getvalue() == b"Hello"

    def test_of_a_file_that_is_gone(self, api, customer, attachment, refusal):
        default_storage.delete(attachment.file.name)
        refusal(api(customer).get(f"/api/attachments/{attachment.pk}/download"), 404, "file_missing")

    def test_of_a_file_that_cannot_be_read(self, api, customer, attachment, refusal, monkeypatch):
        def fail(*args, **kwargs):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("django.core.files.storage.FileSystemStorage._open", fail)
        refusal(api(customer).get(f"/api/attachments/{attachment.pk}/download"), 503, "unavailable")


class TestDetail:
    def test_rename(self, api, customer, ticket, make_attachment, refusal):
        attachment = make_attachment(ticket, customer)
        path = f"/api/attachments/{attachment.pk}"
        answer = api(customer).patch(path, {"filename": "b.txt"}).json()
        assert (answer["filename"], answer["size"]) == ("b.txt", 5)
        for name in ("", "a/b", "x" * 151, "\x00", None):
            refusal(api(customer).patch(path, {"filename": name}), 400, "validation_error", "filename")
        refusal(api(customer).patch(path, {"file": "x"}), 400, "validation_error", "file")

    def test_sending_back_what_one_got(self, api, customer, ticket, make_attachment):
        path = f"/api/attachments/{make_attachment(ticket, customer).pk}"
        before = api(customer).get(path).json()
        assert set(before) == FIELDS
        assert api(customer).patch(path, before).json() == before

    def test_delete_keeps_the_bytes_until_they_are_pruned(
        self, api, customer, ticket, make_attachment, settings, refusal
    ):
        attachment = make_attachment(ticket, customer)
        assert api(customer).delete(f"/api/attachments/{attachment.pk}").status_code == 204
        refusal(api(customer).get(f"/api/attachments/{attachment.pk}/download"), 404, "not_found")
        assert len(stored(settings)) == 1

    def test_page_of_a_ticket(self, api, customer, ticket, make_attachment):
        attachments = [make_attachment(ticket, customer, filename=f"{n}.txt") for n in range(3)]
        page = api(customer).get(f"/api/tickets/{ticket.pk}/attachments?limit=2").json()
        names = [row["filename"] for row in page["results"]]
        names += [row["filename"] for row in api(customer).get(page["next"]).json()["results"]]
        assert names == [attachment.filename for attachment in attachments]
